package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	// How long a pusher waits to be told which runs its push has started;
	// planning takes milliseconds.
	announceWait = 2 * time.Second
	announcePoll = 50 * time.Millisecond
	// Recording a push must not depend on the pusher's patience.
	recordTimeout = 30 * time.Second
	// Lines about runs that a pusher is shown.
	maxAnnounced = 20
)

// git serves fetches and pushes of one repository. Errors are plain text,
// which git shows to its user.
func (s *server) git(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	name, ok := strings.CutSuffix(r.PathValue("repository"), ".git")
	if !ok {
		s.unknown(w, r)
		return
	}
	service := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if r.Method == http.MethodGet {
		if service = r.URL.Query().Get("service"); service == "" {
			http.Error(w, "this server speaks git's smart protocol only", http.StatusForbidden)
			return
		}
	}
	p, err := s.Services.Projects.Project(ctx, name)
	if err == nil {
		err = s.Services.Projects.Reading(ctx, p.ID)
	}
	if err != nil {
		s.failText(w, r, err)
		return
	}
	judge := func(updates []sallyport.RefUpdate) error {
		err := s.Services.Projects.Pushing(ctx, p.ID, updates)
		if err != nil {
			s.metrics.pushes.WithLabelValues("refused").Inc()
		}
		return err
	}
	done := func(updates []sallyport.RefUpdate) string {
		s.metrics.pushes.WithLabelValues("accepted").Inc()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		return s.announce(ctx, s.baseURL(r), p, updates)
	}
	s.Config.Git.Serve(w, r, p.ID, service, judge, done)
}

// announce records a push and tells what it has started.
func (s *server) announce(ctx context.Context, base string, p sallyport.Project, updates []sallyport.RefUpdate) string {
	pushes, err := s.Services.Projects.Pushed(ctx, p.ID, updates)
	if err != nil {
		problem := s.problem(ctx, err)
		return fmt.Sprintf("the push is stored, but its runs could not be started yet: %s", problem.Detail)
	}
	if len(pushes) == 0 {
		return "nothing to run for this push"
	}
	var lines []string
	waiting, cancel := context.WithTimeout(ctx, announceWait) // for all pushes together
	defer cancel()
	for _, push := range pushes {
		runs, err := s.started(ctx, waiting.Done(), p.ID, push.ID)
		if err != nil {
			_ = s.problem(ctx, err)
		}
		if len(runs) == 0 {
			lines = append(lines, fmt.Sprintf("no run for %s yet: see %s/runs", push.Ref, base))
		}
		for i := len(runs) - 1; i >= 0; i-- { // oldest first
			lines = append(lines, describeRun(runs[i], base))
		}
		if len(lines) > maxAnnounced {
			return strings.Join(append(lines[:maxAnnounced], "see the others at "+base+"/runs"), "\n")
		}
	}
	return strings.Join(lines, "\n")
}

// started returns the runs of a push once there are any, or none when the time is up.
func (s *server) started(ctx context.Context, up <-chan struct{}, p sallyport.ProjectID, push sallyport.PushID) ([]sallyport.Run, error) {
	tick := time.NewTicker(announcePoll)
	defer tick.Stop()
	for {
		runs, err := s.Services.Runs.Runs(ctx, sallyport.RunFilter{Project: p, Push: push})
		if err != nil || len(runs) > 0 {
			return runs, err
		}
		select {
		case <-tick.C:
		case <-up:
			return nil, nil
		}
	}
}

func describeRun(run sallyport.Run, base string) string {
	where := fmt.Sprintf("%s/runs/%s", base, run.ID)
	if run.Status == sallyport.StatusCompleted {
		return fmt.Sprintf("run #%d of %s: %s: %s (%s)", run.Number, run.Name, run.Conclusion, run.Cause, where)
	}
	return fmt.Sprintf("run #%d queued: %s", run.Number, where)
}

// baseURL is where people find the pages.
func (s *server) baseURL(r *http.Request) string {
	switch {
	case s.BaseURL != "":
		return s.BaseURL
	case r.TLS != nil:
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// failText answers with an error as plain text.
func (s *server) failText(w http.ResponseWriter, r *http.Request, err error) {
	p := s.problem(r.Context(), err)
	text := p.Detail
	if p.Hint != "" {
		text += "; " + p.Hint
	}
	http.Error(w, text, p.Status)
}
