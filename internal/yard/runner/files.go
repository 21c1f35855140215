package runner

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"unicode/utf8"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

const (
	// maxCommandFile bounds each command file (GitHub: 1 MiB for a summary).
	maxCommandFile = 1 << 20
	// maxOutputs bounds the outputs of one step, and those of the job.
	maxOutputs = 1 << 20
	// maxSummaries bounds the summaries of one job, as each report carries them.
	maxSummaries = 2 << 20
	// maxPaths bounds the directories that a job may put into PATH.
	maxPaths = 256
)

// commandFiles are the files through which one process of a step talks to the
// runner, by kind.
type commandFiles struct {
	layout *layout
	root   *os.Root // the directory that they were made in
	files  map[string]commandFile
}

// commandFile is one of them as the runner made it.
type commandFile struct {
	name string
	made fs.FileInfo
}

// fileKinds in the order in which they are read.
var fileKinds = []string{"env", "path", "output", "state", "step_summary"}

// newCommandFiles returns empty files that are writable for the room's root.
// Files that earlier steps left untouched are used again: making five files costs more
// than all else that the runner does for a step.
func (l *layout) newCommandFiles() (*commandFiles, error) {
	c := &commandFiles{layout: l, files: make(map[string]commandFile, len(fileKinds))}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kind := range fileKinds {
		file, ok := l.fresh[kind]
		if !ok {
			l.made++
			var err error
			if file, err = l.makeCommandFile(fmt.Sprintf("%s_%d", kind, l.made)); errors.Is(err, fs.ErrNotExist) {
				// The job removed the directory, and with it the files that were made before.
				if err = l.openCommands(); err == nil {
					clear(l.fresh)
					file, err = l.makeCommandFile(fmt.Sprintf("%s_%d", kind, l.made))
				}
			}
			if err != nil {
				return nil, sallyport.Errorf(sallyport.CodeInvalid, "the file for $GITHUB_%s cannot be made beneath $RUNNER_TEMP: %w", strings.ToUpper(kind), err).
					WithHint("leave the directory _runner_file_commands to the runner")
			}
		}
		delete(l.fresh, kind)
		c.files[kind] = file
	}
	c.root = l.commands
	return c, nil
}

// openCommands makes the directory of the command files if it is not there, and opens it.
func (l *layout) openCommands() error {
	if err := l.workRoot.MkdirAll(commandDir, 0o777); err != nil {
		return err
	}
	root, err := l.workRoot.OpenRoot(commandDir + "/") // a directory and nothing else: to open a FIFO would take for ever
	if err != nil {
		return err
	}
	if err := root.Chmod(".", 0o777); err != nil { // the umask took bits away
		_ = root.Close()
		return err
	}
	l.commands = root
	l.roots = append(l.roots, root)
	return nil
}

func (l *layout) makeCommandFile(name string) (commandFile, error) {
	f, err := l.commands.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return commandFile{}, err
	}
	defer f.Close()
	if err := f.Chmod(0o666); err != nil { // the umask took bits away
		return commandFile{}, err
	}
	info, err := f.Stat()
	return commandFile{name, info}, err
}

// vars are the variables that name the files.
func (c *commandFiles) vars() []workflow.Var {
	out := make([]workflow.Var, 0, len(fileKinds))
	for _, kind := range fileKinds {
		out = append(out, workflow.Var{Name: "GITHUB_" + strings.ToUpper(kind), Value: path.Join(c.layout.work, commandDir, c.files[kind].name)})
	}
	return out
}

// entries are those of the github context that name the files.
func (c *commandFiles) entries() []workflow.Entry {
	out := make([]workflow.Entry, 0, len(fileKinds))
	for _, kind := range fileKinds {
		out = append(out, workflow.Entry{Key: kind, Value: workflow.String(path.Join(c.layout.work, commandDir, c.files[kind].name))})
	}
	return out
}

// read returns what the process wrote; nil when that is nothing.
func (c *commandFiles) read(kind string) ([]byte, error) {
	file, root := c.files[kind], c.root
	now, err := root.Lstat(file.name)
	if err == nil && untouched(file.made, now) {
		c.layout.mu.Lock()
		c.layout.fresh[kind] = file
		c.layout.mu.Unlock()
		return nil, nil
	}
	b, err := readRegular(root, file.name, maxCommandFile)
	_ = root.Remove(file.name) // what cannot be removed goes with the job's directory
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "read $GITHUB_%s: %w", strings.ToUpper(kind), err)
	}
	return b, nil
}

// untouched reports whether an empty file is still as it was made. The number of the
// inode alone does not tell: a pipe in its place may get the same.
func untouched(made, now fs.FileInfo) bool {
	return os.SameFile(made, now) && now.Size() == 0 && now.Mode() == made.Mode() && now.ModTime().Equal(made.ModTime())
}

// readRegular reads a regular file of at most limit bytes beneath root. The file
// is the job's: it may be a pipe, a device or a link, and change at any time.
func readRegular(root *os.Root, name string, limit int64) ([]byte, error) {
	f, _, err := openRegular(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "it has more than %d KiB", limit>>10)
	}
	return b, nil
}

// openRegular opens a regular file beneath root without waiting for a pipe's
// other end. The last component must not be a symbolic link; links before it
// cannot lead out of root.
func openRegular(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	before, err := root.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, nil, sallyport.Errorf(sallyport.CodeInvalid, "it is not a regular file")
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, err
	}
	after, err := f.Stat()
	if err == nil && (!after.Mode().IsRegular() || !os.SameFile(before, after)) {
		err = sallyport.Errorf(sallyport.CodeInvalid, "it was replaced while it was opened")
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, after, nil
}

// takeFiles applies what a process wrote to its command files. An error is the
// step's failure; what was right before it has taken effect.
func (j *job) takeFiles(s *step, c *commandFiles) error {
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if b, err := c.read("env"); err != nil {
		note(err)
	} else {
		note(j.takeEnv(s, b))
	}
	if b, err := c.read("path"); err != nil {
		note(err)
	} else {
		note(takePath(s.frame.lane, b))
	}
	if b, err := c.read("output"); err != nil {
		note(err)
	} else if list, err := parseVars("OUTPUT", b); err != nil {
		note(err)
	} else {
		for _, x := range list {
			note(s.setOutput(x))
		}
	}
	if b, err := c.read("state"); err != nil {
		note(err)
	} else if list, err := parseVars("STATE", b); err != nil {
		note(err)
	} else {
		for _, x := range list {
			note(s.saveState(x))
		}
	}
	if b, err := c.read("step_summary"); err != nil {
		s.out.print(sallyport.LogWarning, "The summary was not kept: "+err.Error())
	} else if len(b) > 0 {
		j.takeSummary(s, b)
	}
	return errors.Join(errs...)
}

func parseVars(kind string, b []byte) ([]workflow.Var, error) {
	list, err := workflow.ParseEnvFile(b)
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "read $GITHUB_%s: %w", kind, err)
	}
	return list, nil
}

func (j *job) takeEnv(s *step, b []byte) error {
	list, err := parseVars("ENV", b)
	if err != nil {
		return err
	}
	var errs []error
	for _, x := range list {
		if setByRunner(x.Name) {
			s.out.print(sallyport.LogWarning, fmt.Sprintf("The runner sets %s itself: what $GITHUB_ENV says of it is ignored.", x.Name))
			continue
		}
		if why := refusedEnv(x.Name); why != "" {
			errs = append(errs, sallyport.Errorf(sallyport.CodeInvalid, "%.80q must not be set through $GITHUB_ENV: %s", x.Name, why))
			continue
		}
		if strings.ContainsRune(x.Value, 0) {
			errs = append(errs, sallyport.Errorf(sallyport.CodeInvalid, "the value of %.80q has a zero byte", x.Name))
			continue
		}
		x.Tainted = x.Tainted || s.tainted
		s.frame.lane.set(x)
	}
	return errors.Join(append(errs, s.frame.lane.checkSize())...)
}

// takePath puts the directories in front of PATH, the last one first.
func takePath(l *lane, b []byte) error {
	for line := range strings.SplitSeq(string(b), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			continue
		}
		if strings.ContainsRune(line, 0) || len(line) > 4096 || !utf8.ValidString(line) {
			return sallyport.Errorf(sallyport.CodeInvalid, "$GITHUB_PATH holds what is not a path")
		}
		if err := l.prepend(line); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) takeSummary(s *step, b []byte) {
	text, full := j.mask.Text(strings.ToValidUTF8(string(b), "\uFFFD")), false
	j.update(func() {
		if full = j.summaries+len(b) > maxSummaries; !full {
			j.summaries += len(b)
			s.top.report.Summary += text
		}
	})
	if full {
		s.out.print(sallyport.LogWarning, fmt.Sprintf("The summary was not kept: the job's summaries have more than %d KiB.", maxSummaries>>10))
	}
}
