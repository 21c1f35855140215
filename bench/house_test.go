package bench

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/attest/verify"
	"github.com/sallyport-ci/sallyport/internal/blobstore"
	"github.com/sallyport-ci/sallyport/internal/engine"
	"github.com/sallyport-ci/sallyport/internal/forge"
	"github.com/sallyport-ci/sallyport/internal/kms"
	"github.com/sallyport-ci/sallyport/internal/policy"
	"github.com/sallyport-ci/sallyport/internal/sqlstore"
	"github.com/sallyport-ci/sallyport/internal/tlog"
)

// house is a control plane on disk, as the daemon wires it, without listeners
// and without a yard.
type house struct {
	dir    string
	keys   *kms.File
	store  *sqlstore.Store
	repos  *forge.Git
	notary *attest.Notary
	engine *engine.Engine
	s      sallyport.Services

	admin, runner context.Context
	project       sallyport.Project
}

const instance = attest.Instance("ci.example")

var silent = slog.New(slog.DiscardHandler)

func must[T any](b *testing.B) func(v T, err error) T {
	return func(v T, err error) T {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
		return v
	}
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func newHouse(b *testing.B) *house {
	b.Helper()
	tlog.RouteLibraryLog(silent)
	ctx := b.Context()
	h := &house{dir: b.TempDir()}
	sub := func(name string) string { return filepath.Join(h.dir, name) }
	h.keys = must[*kms.File](b)(kms.OpenFile(sub("keys")))
	b.Cleanup(func() { _ = h.keys.Close() })
	check(b, h.keys.Create(ctx))
	h.store = must[*sqlstore.Store](b)(sqlstore.Open(ctx, sqlstore.Config{DSN: "sqlite:" + sub("db"), Clock: time.Now, Log: silent}))
	b.Cleanup(func() { check(b, h.store.Close()) })
	blobs := must[*blobstore.Dir](b)(blobstore.OpenDir(blobstore.Config{Dir: sub("blobs"), KMS: h.keys}))
	b.Cleanup(func() { check(b, blobs.Close()) })
	logs := must[*blobstore.Logs](b)(blobstore.OpenLogs(blobstore.Config{Dir: sub("logs"), KMS: h.keys}))
	b.Cleanup(func() { check(b, logs.Close()) })
	h.repos = must[*forge.Git](b)(forge.New(ctx, forge.Config{Dir: sub("repos"), Log: silent}))

	authority := must[*attest.Authority](b)(attest.NewAuthority(ctx, attest.AuthorityConfig{KMS: h.keys, Instance: instance, Now: time.Now()}))
	signer, err := h.keys.Signer(ctx, sallyport.KeySigLog)
	check(b, err)
	log := must[*tlog.Signatures](b)(tlog.OpenSignatures(ctx, tlog.Config{Dir: sub("siglog"), Origin: instance.SignatureOrigin(), Signer: signer, Log: silent}))
	b.Cleanup(func() { check(b, log.Close(context.Background())) })
	key := attest.LogKey{Origin: instance.SignatureOrigin(), Public: signer.Public()}
	h.notary = must[*attest.Notary](b)(attest.NewNotary(authority, log, key))
	root := must[[]byte](b)(authority.TrustedRoot(key))
	h.engine = must[*engine.Engine](b)(engine.New(engine.Config{
		Store: h.store, Repositories: h.repos, Blobs: blobs, Logs: logs, Gates: must[*policy.Gates](b)(policy.New()),
		Notary: h.notary, Verifier: must[*verify.Verifier](b)(verify.New(root)), Instance: instance, BaseURL: "http://ci.example",
		TrustRoot: root, Version: "bench", Clock: time.Now, Log: silent, LeaseTTL: time.Hour, // nothing is lost here
		Known: []sallyport.Principal{{Kind: sallyport.Person, ID: "ada", Name: "Ada", Admin: true}, {Kind: sallyport.Runner, ID: "r", Name: "r"}},
	}))
	h.s = h.engine.Services()
	h.admin = sallyport.WithPrincipal(ctx, sallyport.Principal{Kind: sallyport.Person, ID: "ada", Name: "Ada", Admin: true})
	h.runner = sallyport.WithPrincipal(ctx, sallyport.Principal{Kind: sallyport.Runner, ID: "r", Name: "r"})
	h.project = must[sallyport.Project](b)(h.s.Projects.CreateProject(h.admin, "bench", "main"))
	return h
}

// live lets the river flow until the benchmark ends.
func (h *house) live(b *testing.B) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.engine.Run(ctx) // ends with its context alone
	}()
	b.Cleanup(func() {
		stop()
		<-ended
	})
}

// template is a run as it was started, to be copied.
type template struct {
	run  sallyport.Run
	plan []byte
	jobs []sallyport.Job
}

// start commits the files and starts their workflow; it returns the one run.
func (h *house) start(b *testing.B, files map[string]string) template {
	b.Helper()
	commit, branch, err := h.repos.Import(h.admin, h.project.ID, repository(b, files))
	check(b, err)
	runs, err := h.engine.Trigger(h.admin, sallyport.Push{
		Project: h.project.ID, Event: "push", Ref: "refs/heads/" + branch, Commit: commit, Tier: sallyport.TierProtected, Payload: []byte("{}"),
	}, engine.Selection{})
	check(b, err)
	if len(runs) != 1 {
		b.Fatalf("got %d runs, want 1", len(runs))
	}
	t := template{run: runs[0]}
	check(b, h.store.View(h.admin, func(tx sallyport.Tx) (err error) {
		if t.plan, err = tx.Runs().Plan(t.run.ID); err != nil {
			return err
		}
		t.jobs, err = tx.Jobs().ByRun(t.run.ID)
		return err
	}))
	return t
}

// copies starts n more runs like the given one.
func (h *house) copies(b *testing.B, of template, n int) {
	b.Helper()
	for n > 0 {
		batch := min(n, 1000)
		n -= batch
		check(b, h.store.Update(h.admin, func(tx sallyport.Tx) error { return h.copy(tx, of, batch) }))
	}
}

func (h *house) copy(tx sallyport.Tx, of template, n int) error {
	for range n {
		r, now := of.run, time.Now().UTC().Truncate(time.Microsecond)
		r.ID, r.CreatedAt = sallyport.NewID[sallyport.RunID](now), now
		var err error
		if r.Number, err = tx.Projects().NextNumber(h.project.ID, "run"); err != nil {
			return err
		}
		if err := tx.Runs().Insert(r, of.plan); err != nil {
			return err
		}
		for _, j := range of.jobs {
			j.ID, j.Run, j.CreatedAt = sallyport.NewID[sallyport.JobID](now), r.ID, now
			if err := tx.Jobs().Insert(j); err != nil {
				return err
			}
			if j.Status != sallyport.StatusQueued {
				continue
			}
			w := sallyport.Work{ID: sallyport.NewID[sallyport.WorkID](now), Queue: sallyport.QueueRunner, Key: string(j.ID), Subject: string(j.ID),
				Labels: j.Labels, RunAt: now, MaxAttempts: 1, CreatedAt: now}
			if err := tx.Work().Enqueue(w); err != nil {
				return err
			}
		}
	}
	tx.Touch("work/" + sallyport.QueueRunner)
	return nil
}

// ask is a runner that can take the jobs of these benchmarks.
func ask(id string) sallyport.LeaseRequest {
	return sallyport.LeaseRequest{Runner: sallyport.RunnerID(id), Name: id, Labels: []string{"linux", "ubuntu-latest"}}
}
