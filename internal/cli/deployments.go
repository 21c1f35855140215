package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/sallyport-ci/sallyport"
)

type deploymentsCmd struct {
	remote
	output
	ID          string `arg:"" optional:"" name:"deployment" help:"Id of a deployment to show."`
	Project     string `help:"The project." placeholder:"NAME"`
	Environment string `help:"Only this environment." placeholder:"NAME"`
}

func (c deploymentsCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	if c.ID != "" {
		d, err := s.Deployments.Deployment(e.ctx, sallyport.DeploymentID(c.ID))
		if err != nil {
			return err
		}
		return c.print(e, d, func(w io.Writer) { showDeployment(w, d) })
	}
	p, err := findProject(e.ctx, s, c.Project)
	if err != nil {
		return err
	}
	envs, err := s.Deployments.Environments(e.ctx, p.ID)
	if err != nil {
		return err
	}
	list, err := s.Deployments.Deployments(e.ctx, p.ID, c.Environment, sallyport.Page{})
	if err != nil {
		return err
	}
	return c.print(e, struct {
		Environments []sallyport.Environment `json:"environments"`
		Deployments  []sallyport.Deployment  `json:"deployments"`
	}{orEmpty(envs), orEmpty(list)}, func(w io.Writer) {
		for _, env := range envs {
			fmt.Fprintf(w, "%s  %s\n", env.Name, env.URL)
		}
		table(w, "NR\tENVIRONMENT\tSTATE\tTRAFFIC\tCOMMIT\tDIGEST\tWHEN\tCAUSE", func(line func(...any)) {
			for _, d := range list {
				line(d.Number, d.Environment, d.State, fmt.Sprintf("%d%%", d.Weight), commit(d.Commit), d.Digest.Short(), ago(d.CreatedAt), d.Cause)
			}
		})
	})
}

func showDeployment(w io.Writer, d sallyport.Deployment) {
	fmt.Fprintf(w, "#%d to %s  %s, %d%% of the traffic\n  id      %s\n  digest  %s\n  commit  %s\n  by      %s\n", d.Number, d.Environment, d.State, d.Weight, d.ID, d.Digest, d.Commit, plain(d.Actor))
	if d.RollbackOf != "" {
		fmt.Fprintf(w, "  rolls back %s\n", d.RollbackOf)
	}
	if d.Cause != "" {
		fmt.Fprintf(w, "  because: %s\n", plain(d.Cause))
	}
}

type deployCmd struct {
	remote
	output
	Artifact    string `arg:"" help:"Id of the artifact."`
	Environment string `arg:"" help:"Name of the environment."`
}

func (c deployCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	d, err := s.Deployments.Deploy(e.ctx, sallyport.ArtifactID(c.Artifact), c.Environment)
	if err != nil {
		return err
	}
	err = c.print(e, d, func(w io.Writer) { showDeployment(w, d) })
	if err == nil && d.State == sallyport.DeployRefused {
		return exitError(exitFailed)
	}
	return err
}

type rollbackCmd struct {
	remote
	output
	Environment string `arg:"" help:"Name of the environment."`
	Project     string `help:"The project." placeholder:"NAME"`
	Reason      string `help:"Why; it is kept." required:""`
}

func (c rollbackCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	p, err := findProject(e.ctx, s, c.Project)
	if err != nil {
		return err
	}
	d, err := s.Deployments.Rollback(e.ctx, p.ID, c.Environment, c.Reason)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stderr, "Deployment #%d brings the last healthy release back …\n", d.Number)
	for !d.State.Final() {
		select {
		case <-e.ctx.Done():
			return e.ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
		if d, err = s.Deployments.Deployment(e.ctx, d.ID); err != nil {
			return err
		}
		if d.State == sallyport.DeployWatching {
			break
		}
	}
	err = c.print(e, d, func(w io.Writer) { showDeployment(w, d) })
	if err == nil && d.State != sallyport.DeployLive && d.State != sallyport.DeployWatching {
		return exitError(exitFailed)
	}
	return err
}
