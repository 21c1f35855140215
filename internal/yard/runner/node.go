package runner

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/tools"
)

// nodeProgram is a Node.js that a job can run.
type nodeProgram struct {
	path    string // in the room
	version version
	of      string // for people: where it is from
}

// nodes remembers the versions of programs, which cost a process each to ask for.
type nodes struct {
	mu    sync.Mutex
	known map[nodeFile]version
}

// nodeFile is a program as it is now; one that was replaced is another.
type nodeFile struct {
	path string
	size int64
	time time.Time
}

// node finds what runs an action that asks for "node20": the newest of that line in the
// runner's tool cache, else in that of the host, else the Node.js of the host, whatever its version.
func (r *Runner) node(ctx context.Context, j *job, using string) (nodeProgram, error) {
	if j.container != nil {
		return j.imageNode(ctx, using)
	}
	for _, x := range j.cached(toolchains["actions/setup-node"]) {
		if fmt.Sprint(x.version[0]) == strings.TrimPrefix(using, "node") && !strings.Contains(x.text, "-") && j.verifyTool(ctx, x) == nil {
			return nodeProgram{x.dir + "/bin/node", x.version, x.from}, nil
		}
	}
	if n, ok := cachedNode(roomToolCache, strings.TrimPrefix(using, "node")); ok {
		return n, nil
	}
	for dir := range strings.SplitSeq(r.cfg.Path, ":") {
		file := filepath.Join(dir, "node")
		info, err := os.Stat(file)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		v, err := r.nodes.version(ctx, j, nodeFile{file, info.Size(), info.ModTime()})
		if err != nil {
			return nodeProgram{}, err
		}
		return nodeProgram{file, v, "this host"}, nil
	}
	return nodeProgram{}, sallyport.Errorf(sallyport.CodeInvalid, "the action runs on %s, and this host has no Node.js that a job can use", using).
		WithHint("install Node.js on the host, under /usr or /opt, or add one: sallyport tools add node VERSION FILE --sha256 DIGEST")
}

// imageNode is the Node.js of the job container: that of the host need not run on the
// image's libraries.
func (j *job) imageNode(ctx context.Context, using string) (nodeProgram, error) {
	search, ok := j.container.env.get("PATH")
	if !ok {
		search = j.runner.cfg.Path
	}
	v, err := j.nodeVersion(ctx, "node", search)
	if err != nil {
		return nodeProgram{}, err
	}
	if v == (version{}) {
		return nodeProgram{}, sallyport.Errorf(sallyport.CodeInvalid, "the action runs on %s, and the image of the job container has no Node.js", using).
			WithHint("use an image that has it, or run the job without a container")
	}
	return nodeProgram{"node", v, "the image"}, nil
}

// nodeVersion asks a program for its version, in the room of the job; zero when it does not run.
func (j *job) nodeVersion(ctx context.Context, program, search string) (version, error) {
	var out said
	result, err := j.room.Exec(ctx, sallyport.ExecSpec{
		Argv: []string{program, "--version"}, Dir: j.layout.work, Stdout: &out, Stderr: &out,
		Env: []sallyport.EnvVar{{Name: "HOME", Value: j.layout.home}, {Name: "PATH", Value: search}},
	})
	if err != nil && sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		return version{}, err
	}
	v, ok := findVersion(out.String())
	if err != nil || result.ExitCode != 0 || !ok {
		return version{}, nil
	}
	return v, nil
}

// cachedNode finds the newest complete Node.js of a major version in a tool cache
// (TOOL/VERSION/ARCH beside ARCH.complete, as actions/tool-cache lays it out).
func cachedNode(cache, major string) (found nodeProgram, ok bool) {
	entries, err := os.ReadDir(filepath.Join(cache, "node"))
	if err != nil {
		return found, false
	}
	for _, e := range entries {
		v, valid := findVersion(e.Name())
		dir := filepath.Join(cache, "node", e.Name(), tools.Arch())
		if !valid || fmt.Sprint(v[0]) != major || ok && v.less(found.version) {
			continue
		}
		if _, err := os.Stat(dir + ".complete"); err != nil {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir, "bin", "node")); err == nil && info.Mode().IsRegular() {
			found, ok = nodeProgram{filepath.Join(dir, "bin", "node"), v, "the tool cache"}, true
		}
	}
	return found, ok
}

// version asks a program for its version, in the room of the job.
func (n *nodes) version(ctx context.Context, j *job, file nodeFile) (version, error) {
	n.mu.Lock()
	v, known := n.known[file]
	n.mu.Unlock()
	if known {
		return v, nil
	}
	v, err := j.nodeVersion(ctx, file.path, j.runner.cfg.Path)
	if err != nil {
		return version{}, err
	}
	if v == (version{}) {
		return version{}, sallyport.Errorf(sallyport.CodeInvalid, "the Node.js of this host does not run in a room").
			WithHint("install it under /usr or /opt, with all that it needs")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		n.known = map[nodeFile]version{}
	}
	n.known[file] = v
	return v, nil
}
