package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

type traceCmd struct {
	remote
	output
	ID      string `arg:"" name:"run" help:"Id or number of the run."`
	Project string `help:"The project, when a number is given." placeholder:"NAME"`
	Job     string `help:"Only this job, by key, name or id." placeholder:"JOB"`
}

// jobTrace is what the verb prints of a job.
type jobTrace struct {
	Job   sallyport.JobID  `json:"job"`
	Name  string           `json:"name"`
	Trace *sallyport.Trace `json:"trace"` // null when nothing was recorded
}

func (c traceCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	id, err := findRun(e.ctx, s, c.Project, c.ID)
	if err != nil {
		return err
	}
	_, jobs, err := s.Runs.Run(e.ctx, id)
	if err != nil {
		return err
	}
	list := []jobTrace{}
	for _, j := range jobs {
		if c.Job != "" && c.Job != j.Key && c.Job != j.Name && c.Job != string(j.ID) || c.Job == "" && j.Trace == "" {
			continue
		}
		t := jobTrace{Job: j.ID, Name: j.Name}
		if j.Trace != "" {
			seen, err := s.Runs.Trace(e.ctx, j.ID)
			if err != nil {
				return err
			}
			t.Trace = &seen
		}
		list = append(list, t)
	}
	if c.Job != "" && len(list) == 0 {
		return sallyport.Errorf(sallyport.CodeNotFound, "the run has no such job")
	}
	return c.print(e, list, func(w io.Writer) {
		for _, t := range list {
			showTrace(w, t)
		}
	})
}

func showTrace(w io.Writer, t jobTrace) {
	if t.Trace == nil {
		fmt.Fprintf(w, "%s: nothing was recorded; it has not ended, or ended before it began.\n", t.Name)
		return
	}
	fmt.Fprintf(w, "%s: %d starts of %d programs\n", t.Name, t.Trace.Starts, len(t.Trace.Programs))
	table(w, "PROGRAM\tSTARTS\tSTEPS\tDIGEST", func(line func(...any)) {
		for _, p := range t.Trace.Programs {
			line(p.Path, p.Starts, steps(p.Steps), p.Digest.Short())
		}
	})
	if src := t.Trace.Source; src != nil {
		fmt.Fprintf(w, "source: %d files of commit %s, %d changed by the job\n", src.Files, commit(src.Commit), len(t.Trace.Changes))
		if len(t.Trace.Changes) > 0 {
			table(w, "FILE\tWHAT\tSTEP\tBEFORE ARTIFACT", func(line func(...any)) {
				for _, x := range t.Trace.Changes {
					line(x.Path, x.How, steps([]int{x.Step}), x.Artifact)
				}
			})
		}
	}
	for _, g := range t.Trace.NotSeen {
		fmt.Fprintf(w, "not seen: %s (%s)\n", g.What, g.Why)
	}
	if t.Trace.Lost > 0 {
		fmt.Fprintf(w, "%d more are not kept one by one\n", t.Trace.Lost)
	}
}

// steps lists step numbers; 0 is a time in which none or several ran.
func steps(list []int) string {
	var out []string
	for _, n := range list {
		if n == 0 {
			out = append(out, "-")
		} else {
			out = append(out, strconv.Itoa(n))
		}
	}
	return strings.Join(out, ",")
}
