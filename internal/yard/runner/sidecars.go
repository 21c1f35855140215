package runner

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// sidecar is a service container of the job: a room of its own, whose ports
// answer on the loopback of the job's room.
type sidecar struct {
	name string
	c    *container
	room sallyport.Room
	log  sidecarLog
	stop context.CancelFunc
	gone chan struct{} // closed when its process has ended
}

// maxSidecars bounds the services of one job, maxSidecarLog what is kept of each one's output.
const (
	maxSidecars   = 20
	maxSidecarLog = 256 << 10
)

// sidecarLog keeps the last bytes of a service's output.
type sidecarLog struct {
	mu   sync.Mutex
	last []byte
}

func (l *sidecarLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = append(l.last, p...)
	if over := len(l.last) - maxSidecarLog; over > 0 {
		l.last = append(l.last[:0], l.last[over:]...)
	}
	return len(p), nil
}

// text returns it, as untrusted text.
func (l *sidecarLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimRight(string(bytes.ToValidUTF8(l.last, []byte("\uFFFD"))), "\n")
}

// startSidecars makes the job's services, waits until they are healthy and sets
// job.services. On an error those that were started are in j.sidecars all the same.
func (j *job) startSidecars(ctx context.Context, scope *workflow.Scope) (peers []sallyport.Peer, hosts []string, err error) {
	if j.plan.Services.IsZero() || j.plan.Services.Kind == sallyport.TreeNull {
		return nil, nil, nil
	}
	if len(j.plan.Services.Pairs) > maxSidecars {
		return nil, nil, sallyport.Errorf(sallyport.CodeInvalid, "the job has more than %d services", maxSidecars)
	}
	taken := map[int]string{}
	var contexts []workflow.Entry
	for n, pair := range j.plan.Services.Pairs {
		name := pair.Key.Text
		c, err := j.getContainer(ctx, scope, pair.Value, "service "+name)
		if err != nil {
			return nil, nil, err
		}
		if c == nil {
			continue // no image: no service
		}
		s := &sidecar{name: name, c: c, gone: make(chan struct{})}
		if err := j.startSidecar(ctx, s, n); err != nil {
			return nil, nil, fmt.Errorf("service %s: %w", name, err)
		}
		var ports []workflow.Entry
		for _, m := range j.sidecarPorts(c) {
			as := m.host
			if as == 0 {
				for as = m.container; taken[as] != ""; as++ {
				}
			}
			if other := taken[as]; other != "" {
				return nil, nil, sallyport.Errorf(sallyport.CodeInvalid, "the services %s and %s both want port %d of the job", other, name, as).
					WithHint("map one of them to another port: HOST:CONTAINER")
			}
			taken[as] = name
			peers = append(peers, sallyport.Peer{Room: s.room, Port: m.container, As: as})
			ports = append(ports, workflow.Entry{Key: strconv.Itoa(m.container), Value: workflow.String(strconv.Itoa(as))})
		}
		if j.container != nil {
			hosts = append(hosts, name)
		}
		contexts = append(contexts, workflow.Entry{Key: name, Value: workflow.Object(
			workflow.Entry{Key: "id", Value: workflow.String(string(s.c.image.Digest.Short()))},
			workflow.Entry{Key: "network", Value: workflow.String("loopback")},
			workflow.Entry{Key: "ports", Value: workflow.Object(ports...)},
		)})
	}
	for _, s := range j.sidecars {
		if err := j.awaitHealth(ctx, s); err != nil {
			return nil, nil, fmt.Errorf("service %s: %w", s.name, err)
		}
	}
	j.sidecarContext = workflow.Object(contexts...)
	return peers, hosts, nil
}

// sidecarPorts are the ports under which a service answers. In a job container it is
// reached by its name at its own ports; else only at those that are mapped.
func (j *job) sidecarPorts(c *container) []portMapping {
	if j.container == nil {
		return c.ports
	}
	out := append([]portMapping{}, c.ports...)
	for i := range out {
		out[i].host = out[i].container
	}
	for _, p := range c.image.Config.Ports {
		known := false
		for _, m := range out {
			known = known || m.container == p
		}
		if !known {
			out = append(out, portMapping{p, p})
		}
	}
	return out
}

func (j *job) startSidecar(ctx context.Context, s *sidecar, n int) error {
	if len(s.c.argv) == 0 {
		return sallyport.Errorf(sallyport.CodeInvalid, "its image has no command to run")
	}
	var err error
	s.room, err = j.sandbox().Prepare(ctx, sallyport.RoomSpec{
		ID: fmt.Sprintf("service-%d-%s-%d", n, j.lease.Job.ID, j.lease.Job.Attempt), Hostname: "service", Hosts: []string{s.name},
		Image: s.c.root, Limits: j.runner.cfg.Limits, Started: j.trace.Started,
	})
	if err != nil {
		return fmt.Errorf("prepare its room: %w", err)
	}
	j.sidecars = append(j.sidecars, s)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go func() {
		defer close(s.gone)
		result, err := s.room.Exec(run, sallyport.ExecSpec{Argv: s.c.argv, Env: s.c.environ(), Dir: s.c.dir, User: s.c.user, Stdout: &s.log, Stderr: &s.log})
		if err != nil && run.Err() == nil {
			fmt.Fprintf(&s.log, "it could not be started: %v\n", err)
		} else if run.Err() == nil {
			fmt.Fprintf(&s.log, "it ended with exit code %d\n", result.ExitCode)
		}
	}()
	return nil
}

// environ is the environment of a process of the container itself.
func (c *container) environ() []sallyport.EnvVar {
	all := variables{}
	all.set(workflow.Var{Name: "PATH", Value: defaultPath})
	all.set(workflow.Var{Name: "HOME", Value: "/root"})
	all.setAll(c.env.each())
	return all.list()
}

// awaitHealth returns when the service is healthy by its check, or at once
// when it has none.
func (j *job) awaitHealth(ctx context.Context, s *sidecar) error {
	check := s.c.check
	if check.command == "" {
		return nil
	}
	if check.interval <= 0 {
		check.interval = defaultHealthInterval
	}
	if check.timeout <= 0 {
		check.timeout = defaultHealthInterval
	}
	if check.retries == 0 {
		check.retries = defaultHealthRetries
	}
	began := time.Now()
	for failed := 0; ; {
		if s.healthy(ctx, check) {
			j.log.say(0, sallyport.LogSystem, "Service %s is healthy.", s.name)
			return nil
		}
		if time.Since(began) >= check.start {
			failed++
		}
		pause := time.NewTimer(check.interval)
		select {
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		case <-s.gone:
			pause.Stop()
			return unhealthy("it ended before it was healthy")
		case <-pause.C:
		}
		if failed >= check.retries {
			return unhealthy("it was not healthy after %d checks", failed)
		}
	}
}

func unhealthy(format string, args ...any) error {
	return sallyport.Errorf(sallyport.CodeInvalid, format, args...).WithHint("what it said is at the end of the log; look at its env and at --health-cmd")
}

func (s *sidecar) healthy(ctx context.Context, check healthCheck) bool {
	limited, cancel := context.WithTimeout(ctx, check.timeout)
	defer cancel()
	result, err := s.room.Exec(limited, sallyport.ExecSpec{Argv: []string{"/bin/sh", "-c", check.command}, Env: s.c.environ(), Dir: s.c.dir, User: s.c.user, Grace: time.Millisecond})
	return err == nil && limited.Err() == nil && result.ExitCode == 0
}

// endSidecars prints what the services said and destroys their rooms. The job's
// room is gone already.
func (j *job) endSidecars(ctx context.Context) {
	for _, s := range j.sidecars {
		if text := s.log.text(); text != "" {
			j.log.say(0, sallyport.LogGroup, "Service %s", s.name)
			j.log.text(0, sallyport.LogOutput, text)
			j.log.say(0, sallyport.LogEndGroup, "")
		}
		s.stop()
		if err := s.room.Destroy(ctx); err != nil {
			j.slog.ErrorContext(ctx, "room of a service was not destroyed", "service", s.name, "err", err)
		}
		<-s.gone
	}
	j.sidecars = nil
}
