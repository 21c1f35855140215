package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

type runsCmd struct {
	remote
	output
	ID      string `arg:"" optional:"" name:"run" help:"Id or number of a run to show."`
	Project string `help:"Only this project." placeholder:"NAME"`
	Limit   int    `help:"How many at most." default:"20"`
}

func (c runsCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	if c.ID != "" {
		return c.show(e, s)
	}
	f := sallyport.RunFilter{Page: sallyport.Page{Limit: c.Limit}}
	if c.Project != "" {
		p, err := s.Projects.Project(e.ctx, c.Project)
		if err != nil {
			return err
		}
		f.Project = p.ID
	}
	list, err := s.Runs.Runs(e.ctx, f)
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "RUN\tSTATE\tWORKFLOW\tREF\tCOMMIT\tTOOK\tWHEN", func(line func(...any)) {
			for _, r := range list {
				line("#"+strconv.FormatInt(r.Number, 10), state(r.Status, r.Conclusion), r.Name, r.Ref, commit(r.Commit), took(r.StartedAt, r.FinishedAt), ago(r.CreatedAt))
			}
		})
	})
}

func (c runsCmd) show(e *env, s sallyport.Services) error {
	id, err := findRun(e.ctx, s, c.Project, c.ID)
	if err != nil {
		return err
	}
	r, jobs, err := s.Runs.Run(e.ctx, id)
	if err != nil {
		return err
	}
	return c.print(e, runJSON{r, orEmpty(jobs)}, func(w io.Writer) { showRun(w, r, jobs) })
}

// runJSON is a run with its jobs.
type runJSON struct {
	sallyport.Run
	Jobs []sallyport.Job `json:"jobs"`
}

func showRun(w io.Writer, r sallyport.Run, jobs []sallyport.Job) {
	fmt.Fprintf(w, "run #%d  %s  %s\n", r.Number, plain(r.Title), state(r.Status, r.Conclusion))
	fmt.Fprintf(w, "  %s on %s at %s by %s, tier %s\n", r.Event, plain(r.Ref), commit(r.Commit), plain(r.Actor), r.Tier)
	fmt.Fprintf(w, "  id %s, plan %s, took %s\n", r.ID, r.PlanDigest.Short(), took(r.StartedAt, r.FinishedAt))
	if r.Cause != "" {
		fmt.Fprintf(w, "  because: %s\n", plain(r.Cause))
	}
	for _, j := range jobs {
		fmt.Fprintf(w, "\n  %-10s %s  %s\n", state(j.Status, j.Conclusion), plain(j.Name), took(j.StartedAt, j.FinishedAt))
		if j.Cause != "" {
			fmt.Fprintf(w, "             %s\n", plain(j.Cause))
		}
		for _, st := range j.Steps {
			fmt.Fprintf(w, "    %-10s %s  %s\n", state(st.Status, st.Conclusion), plain(st.Name), took(st.StartedAt, st.FinishedAt))
		}
	}
}

// idLength is that of every id, a UUID.
const idLength = 36

// findRun finds a run by id, or by its number within the project.
func findRun(ctx context.Context, s sallyport.Services, project, run string) (sallyport.RunID, error) {
	number, err := strconv.ParseInt(strings.TrimPrefix(run, "#"), 10, 64)
	if err != nil {
		if len(run) != idLength {
			return "", sallyport.Errorf(sallyport.CodeInvalid, "%.100q is neither the number nor the id of a run", run).WithHint("list them with: sallyport runs")
		}
		return sallyport.RunID(run), nil
	}
	p, err := findProject(ctx, s, project)
	if err != nil {
		return "", err
	}
	page := sallyport.Page{Limit: 200}
	for {
		list, err := s.Runs.Runs(ctx, sallyport.RunFilter{Project: p.ID, Page: page})
		if err != nil {
			return "", err
		}
		for _, r := range list {
			if r.Number == number {
				return r.ID, nil
			}
		}
		if len(list) < page.Limit {
			return "", sallyport.Errorf(sallyport.CodeNotFound, "project %s has no run #%d", p.Name, number).WithHint("list them with: sallyport runs")
		}
		page.Before = string(list[len(list)-1].ID)
	}
}

type cancelCmd struct {
	remote
	ID      string `arg:"" name:"run" help:"Id or number of the run."`
	Project string `help:"The project, when a number is given." placeholder:"NAME"`
}

func (c cancelCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	id, err := findRun(e.ctx, s, c.Project, c.ID)
	if err != nil {
		return err
	}
	if err := s.Runs.Cancel(e.ctx, id); err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, "Cancellation asked; jobs and steps with always() may still run. A second cancel stops those too.")
	return nil
}

type dispatchCmd struct {
	remote
	output
	Workflow string            `arg:"" help:"Path of the workflow in the repository, or its name in .github/workflows."`
	Project  string            `help:"The project." placeholder:"NAME"`
	Ref      string            `help:"Full name of the ref; default: the default branch." placeholder:"REF"`
	Input    map[string]string `help:"Inputs of the workflow." placeholder:"K=V"`
}

func (c dispatchCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	p, err := findProject(e.ctx, s, c.Project)
	if err != nil {
		return err
	}
	if !strings.Contains(c.Workflow, "/") {
		c.Workflow = ".github/workflows/" + c.Workflow
	}
	inputs := c.Input
	if inputs == nil {
		inputs = map[string]string{}
	}
	body, err := json.Marshal(inputs)
	if err != nil {
		return err
	}
	list, err := s.Runs.Dispatch(e.ctx, p.ID, c.Workflow, c.Ref, body)
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		for _, r := range list {
			fmt.Fprintf(w, "run #%d started: %s\n", r.Number, r.ID)
		}
	})
}
