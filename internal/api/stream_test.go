package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// broken yields some content and then fails.
type broken struct {
	io.Reader
	closed chan struct{}
}

func (b *broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errors.New("digest does not match")
	}
	return n, err
}

func (b *broken) Close() error { close(b.closed); return nil }

// A stream that fails on the server is never taken for a whole one.
func TestBrokenStreams(t *testing.T) {
	t.Parallel()
	s := start(t)
	client := s.client(t)
	lease := sallyport.LeaseRef{Job: "j", Token: "t"}
	for name, open := range map[string]func() (io.ReadCloser, error){
		"Artifacts.Open": func() (io.ReadCloser, error) { return client.Services().Artifacts.Open(t.Context(), "a") },
		"Yard.Action": func() (io.ReadCloser, error) {
			return client.Yard().Action(t.Context(), lease, sallyport.DigestOf(nil))
		},
		"Yard.Source": func() (io.ReadCloser, error) { return client.Yard().Source(t.Context(), lease, 1) },
		"Yard.GetArtifact": func() (io.ReadCloser, error) {
			_, r, err := client.Yard().GetArtifact(t.Context(), lease, "", "x")
			return r, err
		},
	} {
		for size, want := range map[int]sallyport.Code{0: sallyport.CodeInternal, 1 << 20: sallyport.CodeUnavailable} {
			if name == "Yard.GetArtifact" {
				want, size = sallyport.CodeUnavailable, 1<<20 // its description comes first
			}
			bad := &broken{strings.NewReader(strings.Repeat("x", size)), make(chan struct{})}
			s.when(name, func(context.Context, []any) ([]any, error) {
				if name == "Yard.GetArtifact" {
					return []any{sallyport.Artifact{Name: "x"}, bad}, nil
				}
				return []any{bad}, nil
			})
			r, err := open()
			if err == nil {
				_, err = io.ReadAll(r)
				r.Close()
			}
			if sallyport.ErrorCode(err) != want {
				t.Errorf("%s of %d bytes: %v", name, size, err)
			}
			<-bad.closed
		}
	}
}

func TestLargeStreams(t *testing.T) {
	t.Parallel()
	s := start(t)
	lease := sallyport.LeaseRef{Job: "j", Token: "t"}
	const size = 64 << 20
	s.when("Yard.GetArtifact", func(context.Context, []any) ([]any, error) {
		return []any{sallyport.Artifact{Name: "big"}, io.NopCloser(io.LimitReader(zeros{}, size))}, nil
	})
	a, r, err := s.client(t).Yard().GetArtifact(t.Context(), lease, "", "big")
	if err != nil || a.Name != "big" {
		t.Fatal(a, err)
	}
	defer r.Close()
	if n, err := io.Copy(io.Discard, r); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := s.client(t).Yard().PutArtifact(t.Context(), lease, "big", io.LimitReader(zeros{}, size)); err != nil {
		t.Error(err)
	}
	if got := len(s.got("Yard.PutArtifact")[2].(string)); got != size {
		t.Errorf("%d bytes arrived", got)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// An upload that breaks off is an error for the yard, not a short artifact.
func TestBrokenUpload(t *testing.T) {
	t.Parallel()
	s := start(t)
	bad := &broken{strings.NewReader("part"), make(chan struct{})}
	_, err := s.client(t).Yard().PutArtifact(t.Context(), sallyport.LeaseRef{Job: "j", Token: "t"}, "x", bad)
	if err == nil || s.got("Yard.PutArtifact") != nil {
		t.Errorf("err = %v, stored %v", err, s.got("Yard.PutArtifact"))
	}
}

func TestLogConflict(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.when("Yard.AppendLog", func(context.Context, []any) ([]any, error) {
		return []any{int64(42)}, sallyport.Errorf(sallyport.CodeConflict, "the log ends at 42")
	})
	end, err := s.client(t).Yard().AppendLog(t.Context(), sallyport.LeaseRef{Job: "j", Token: "t"}, 100, []byte("x"))
	if end != 42 || sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("AppendLog = %d, %v", end, err)
	}
}

func TestLogEnd(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, done := range []bool{true, false} {
		s.when("Runs.Log", func(context.Context, []any) ([]any, error) { return []any{[]byte(nil), done}, nil })
		data, got, err := s.client(t).Services().Runs.Log(t.Context(), "j", 0, 0, time.Hour)
		if len(data) != 0 || got != done || err != nil {
			t.Errorf("Log = %q, %v, %v", data, got, err)
		}
	}
	if wait := s.got("Runs.Log")[3]; wait != 50*time.Second {
		t.Errorf("waited %v", wait)
	}
}

// A caller that goes away ends its long poll on the server.
func TestLongPollIsCancelled(t *testing.T) {
	t.Parallel()
	s := start(t)
	waiting, ended := make(chan struct{}), make(chan struct{})
	s.when("Yard.Lease", func(ctx context.Context, _ []any) ([]any, error) {
		close(waiting)
		<-ctx.Done()
		close(ended)
		return []any{nil}, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() {
		_, err := s.client(t).Yard().Lease(ctx, sallyport.LeaseRequest{Runner: "r"})
		result <- err
	}()
	<-waiting
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("Lease = %v", err)
	}
	<-ended
}

// A server that shuts down lets go of those who wait, and they see that there was nothing.
func TestShutdownEndsLongPolls(t *testing.T) {
	t.Parallel()
	s := start(t)
	waiting := make(chan struct{}, 3)
	block := func(ctx context.Context, _ []any) ([]any, error) {
		waiting <- struct{}{}
		<-ctx.Done()
		return []any{nil, nil}, ctx.Err()
	}
	for _, name := range []string{"Yard.Lease", "Runs.Log", "Runs.WaitChange"} {
		s.when(name, block)
	}
	client := s.client(t)
	results := make(chan error, 3)
	go func() {
		lease, err := client.Yard().Lease(t.Context(), sallyport.LeaseRequest{Runner: "r"})
		if lease != nil {
			err = errors.New("a lease")
		}
		results <- err
	}()
	go func() {
		_, done, err := client.Services().Runs.Log(t.Context(), "j", 0, 0, time.Minute)
		if done {
			err = errors.New("the log is done")
		}
		results <- err
	}()
	go func() { results <- client.Services().Runs.WaitChange(t.Context(), "r") }()
	for range 3 {
		<-waiting
	}
	if err := s.server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	s := start(t)
	got := ask(t, "GET", s.url+"/api/v1/openapi.json", "", "Authorization", "Bearer "+goodToken)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Responses   map[string]struct {
				Content map[string]any
			}
		}
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %s", doc.OpenAPI)
	}
	ids := map[string]bool{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if ids[op.OperationID] || op.OperationID == "" {
				t.Errorf("%s %s: operation id %q", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
			if _, ok := op.Responses["default"].Content["application/problem+json"]; !ok {
				t.Errorf("%s %s: errors are not described", method, path)
			}
		}
	}
	if len(ids) < 50 {
		t.Errorf("%d operations", len(ids))
	}
	for _, schema := range []string{"Run", "Job", "Plan", "Problem", "Lease", "FullVerdict"} {
		if doc.Components.Schemas[schema] == nil {
			t.Errorf("no schema %s", schema)
		}
	}
	for i := strings.Index(got.body, "$ref"); i >= 0; {
		ref, _, _ := strings.Cut(got.body[i+len(`$ref":"#/components/schemas/`):], `"`)
		if doc.Components.Schemas[ref] == nil {
			t.Fatalf("a reference to %q, which is not there", ref)
		}
		next := strings.Index(got.body[i+1:], "$ref")
		if next < 0 {
			break
		}
		i += 1 + next
	}
}
