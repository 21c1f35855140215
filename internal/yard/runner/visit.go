package runner

import (
	"context"
	"io"

	sallyport "github.com/sallyport-ci/sallyport"
)

// visited is the vocabulary's word for a room that somebody was let into.
const visited = "no-visitors"

// visit lets whoever runs the runner into the room of the failed job.
func (j *job) visit(ctx context.Context, f *frame) {
	j.update(func() {
		isolation := *j.isolation
		isolation.NotEnforced = append(isolation.NotEnforced, sallyport.Gap{What: visited, Why: "somebody opened a shell in the room after the job had failed"})
		j.isolation = &isolation
	})
	j.log.say(0, sallyport.LogSystem, "A shell was opened in the room: what the job leaves may not be its own work.")
	j.runner.cfg.Visit(ctx, j.lease.Job, func(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
		env := append(j.processEnv(f, &j.main.env, nil), sallyport.EnvVar{Name: "TERM", Value: "xterm"})
		_, err := j.room.Exec(ctx, sallyport.ExecSpec{Argv: argv, Env: env, Dir: j.layout.workspace(), Stdin: stdin, Stdout: stdout, Stderr: stderr})
		return err
	})
}
