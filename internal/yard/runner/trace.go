package runner

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/trace"
)

// beginTrace begins to record what the job does.
func (j *job) beginTrace() error {
	c := trace.Config{Digests: &j.runner.digests, Clock: j.runner.cfg.Clock}
	if j.layout.volume != nil {
		root, err := os.Open(j.layout.bulk)
		if err != nil {
			return err
		}
		j.volume, c.Volume = root, root
	}
	j.trace = trace.New(c)
	return nil
}

// endTrace returns what was recorded, nil when the job came to nothing. The rooms are gone.
func (j *job) endTrace() *sallyport.Trace {
	if j.trace == nil {
		return nil
	}
	t := j.trace.Finish()
	if j.volume != nil {
		j.volume.Close()
	}
	j.tellChanges(t.Changes)
	return &t
}

// maxToldChanges is how many changed files the log names; the record has all.
const maxToldChanges = 10

// tellChanges says in the job's log which files of its source it has changed.
func (j *job) tellChanges(changes []sallyport.SourceChange) {
	told := 0
	for _, c := range changes {
		if c.How == trace.Restored {
			continue
		}
		if told++; told > maxToldChanges {
			continue
		}
		when := ""
		if c.Step > 0 {
			when = fmt.Sprintf(" in step %d", c.Step)
		}
		if c.Artifact != "" {
			when += fmt.Sprintf(", before the artifact %s was made", c.Artifact)
		}
		j.log.say(0, sallyport.LogWarning, "The tracked file %s was %s%s.", j.plainText(c.Path, 200), c.How, when)
	}
	if told > maxToldChanges {
		j.log.say(0, sallyport.LogWarning, "%d more tracked files were changed.", told-maxToldChanges)
	}
}

// traceCheckout begins to look after what was checked out into a directory of the room.
func (j *job) traceCheckout(dir, commit string) {
	rest := strings.TrimPrefix(strings.TrimPrefix(dir, j.layout.work), "/")
	// Not a FIFO that somebody has put there, at which we would wait for ever.
	f, err := j.layout.workRoot.OpenFile(filepath.Clean(rest), os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err == nil {
		err = j.trace.CheckedOut(f, commit)
	}
	if err != nil { // the record says so too
		j.slog.Warn("source is not looked after", "err", err)
	}
}

// traced is the yard of a job whose source is compared before each artifact is made.
type traced struct {
	sallyport.Yard
	trace *trace.Recorder
}

func (y traced) PutArtifact(ctx context.Context, l sallyport.LeaseRef, name string, content io.Reader) (sallyport.Artifact, error) {
	y.trace.Artifact(name)
	return y.Yard.PutArtifact(ctx, l, name, content)
}

// yard is where the job's own artifacts go.
func (j *job) yard() sallyport.Yard { return traced{j.runner.cfg.Yard, j.trace} }
