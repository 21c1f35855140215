package runner

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Places in the room. They are those of GitHub's own runners, as scripts rely on them.
const (
	roomHome      = "/home/runner"
	roomToolCache = "/opt/hostedtoolcache"
	roomGiven     = "/sallyport" // what the runner gives to the job, read-only
)

// commandDir holds the command files, homeDir the home of containers, both beneath
// the temporary directory.
const (
	commandDir = "_temp/_runner_file_commands"
	homeDir    = "_github_home"
)

// layout tells where a job's directories are, on the host and in the room.
//
//	HOST          ROOM                                  who writes
//	bulk          /home/runner/work                     the job
//	bulk/R/R      /home/runner/work/R/R                 the job: its workspace
//	bulk/_temp    /home/runner/work/_temp               the job
//	dir/given     /sallyport (read-only)                the runner
type layout struct {
	dir    string           // on the host
	bulk   string           // on the host: what the job fills
	volume sallyport.Volume // that bounds bulk; nil where the host cannot: then it is dir/work
	repo   string           // the repository's short name

	container bool // the room is one of a job container

	home, toolCache, given, work string // in the room

	shared map[string]string // directories that other jobs see too, by their names beneath given

	workRoot *os.Root   // bulk, opened before the room exists
	commands *os.Root   // bulk/_temp/_runner_file_commands, likewise
	roots    []*os.Root // it, and those that the job removed

	mu      sync.Mutex
	scripts int
	made    int                    // command files so far
	fresh   map[string]commandFile // by kind, untouched
}

// newLayout makes the directories of a job beneath parent, and in the volume if
// there is one, which the layout closes.
func newLayout(parent, project string, volume sallyport.Volume) (*layout, error) {
	var b [8]byte
	_, _ = rand.Read(b[:])
	l := &layout{
		dir: filepath.Join(parent, "job-"+hex.EncodeToString(b[:])), repo: shortName(project),
		home: roomHome, toolCache: roomToolCache, given: roomGiven, work: roomHome + "/work",
		fresh: map[string]commandFile{}, volume: volume, shared: map[string]string{},
	}
	l.bulk = filepath.Join(l.dir, "work")
	if volume != nil {
		l.bulk = volume.Dir()
	}
	err := os.Mkdir(l.dir, 0o700)
	if err == nil {
		err = l.fill()
	}
	if err != nil {
		_ = l.remove()
		return nil, err
	}
	return l, nil
}

func (l *layout) fill() error {
	// The job directory is closed to others on this host; what is beneath it is open, so
	// that the room's root can use it whatever its id is outside.
	for _, d := range []struct {
		under, dir string
		mode       os.FileMode
	}{
		{l.bulk, path.Join(l.repo, l.repo), 0o777}, {l.bulk, commandDir, 0o777}, {l.bulk, path.Join("_temp", homeDir), 0o777},
		{l.dir, "given/scripts", 0o755}, {l.dir, "given/source", 0o755},
	} {
		full := filepath.Join(d.under, d.dir)
		if err := os.MkdirAll(full, 0o755); err != nil {
			return err
		}
		for ; full != d.under; full = filepath.Dir(full) { // the umask may have taken bits away
			if err := os.Chmod(full, d.mode); err != nil {
				return err
			}
		}
	}
	err := os.Chmod(l.bulk, 0o777)
	if err != nil {
		return err
	}
	if l.workRoot, err = os.OpenRoot(l.bulk); err != nil {
		return err
	}
	return l.openCommands()
}

// binds are the directories that the room sees.
func (l *layout) binds() []sallyport.Bind {
	binds := []sallyport.Bind{
		{Source: l.bulk, Target: l.work},
		{Source: filepath.Join(l.dir, "given"), Target: l.given, ReadOnly: true},
	}
	for _, name := range slices.Sorted(maps.Keys(l.shared)) {
		binds = append(binds, sallyport.Bind{Source: l.shared[name], Target: path.Join(l.given, name), ReadOnly: true})
	}
	return binds
}

// forContainer moves the places in the room to where GitHub has them in a container.
func (l *layout) forContainer() {
	l.container, l.work, l.home, l.toolCache = true, containerWork, containerHome, containerTools
}

func (l *layout) workspace() string { return path.Join(l.work, l.repo, l.repo) }
func (l *layout) temp() string      { return path.Join(l.work, "_temp") }

// give writes a file that the job can read and not change, and returns its path in
// the room. The directory is the runner's own.
func (l *layout) give(name string, content []byte) (string, error) {
	full := filepath.Join(l.dir, "given", name)
	if err := os.WriteFile(full, content, 0o644); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Chmod(full, 0o755); err != nil {
		return "", err
	}
	return path.Join(l.given, name), nil
}

// script writes the text of a step and returns its path in the room.
func (l *layout) script(text, extension string) (string, error) {
	l.mu.Lock()
	l.scripts++
	name := fmt.Sprintf("scripts/%d%s", l.scripts, extension)
	l.mu.Unlock()
	return l.give(name, []byte(text))
}

// inWork returns the path relative to the work directory of an absolute path in the room.
func (l *layout) inWork(room string) (string, bool) {
	rel, ok := strings.CutPrefix(path.Clean(room)+"/", l.work+"/")
	if !ok {
		return "", false
	}
	if rel = strings.TrimSuffix(rel, "/"); rel == "" {
		rel = "."
	}
	return rel, true
}

// readRoom reads a regular file by its path in the room, of what the job works on or
// what it was given.
func (l *layout) readRoom(room string, limit int64) ([]byte, error) {
	if rel, ok := l.inWork(room); ok {
		return readRegular(l.workRoot, rel, limit)
	}
	rel, ok := strings.CutPrefix(path.Clean(room), l.given+"/")
	if !ok {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "it is neither beneath %s nor beneath %s", l.work, l.given)
	}
	root, err := os.OpenRoot(filepath.Join(l.dir, "given"))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return readRegular(root, rel, limit)
}

// inRepository returns the path relative to the workspace of a file that a tool named,
// relative to the file at fromPath if there is one; "" when it is not there.
func (l *layout) inRepository(file, fromPath string) string {
	if file == "" {
		return ""
	}
	if fromPath != "" && !path.IsAbs(file) {
		file = path.Join(path.Dir(fromPath), file)
	}
	rel, ok := strings.CutPrefix(l.inWorkspace(file), l.workspace()+"/")
	if !ok {
		return ""
	}
	if info, err := l.workRoot.Stat(path.Join(l.repo, l.repo, rel)); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return rel
}

// remove deletes the job's directories.
func (l *layout) remove() error {
	for _, r := range l.roots {
		_ = r.Close()
	}
	if l.workRoot != nil {
		_ = l.workRoot.Close()
	}
	var err error
	if l.volume != nil {
		err = l.volume.Close()
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

// shortName returns what follows the last slash of a project's name, safe as
// the name of a directory.
func shortName(project string) string {
	name := path.Base(project)
	var b strings.Builder
	for _, r := range name[:min(len(name), 100)] {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			b.WriteRune(r)
		default:
			b.WriteByte('_')
		}
	}
	name = b.String()
	if strings.Trim(name, ".") == "" || strings.HasPrefix(name, "_") {
		return "repository"
	}
	return name
}
