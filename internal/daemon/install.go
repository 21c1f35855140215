package daemon

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/attest/verify"
	"github.com/sallyport-ci/sallyport/internal/blobstore"
	"github.com/sallyport-ci/sallyport/internal/engine"
	"github.com/sallyport-ci/sallyport/internal/forge"
	"github.com/sallyport-ci/sallyport/internal/issuer"
	"github.com/sallyport-ci/sallyport/internal/kms"
	"github.com/sallyport-ci/sallyport/internal/oci"
	"github.com/sallyport-ci/sallyport/internal/oidc"
	"github.com/sallyport-ci/sallyport/internal/policy"
	"github.com/sallyport-ci/sallyport/internal/rotate"
	"github.com/sallyport-ci/sallyport/internal/sqlstore"
	"github.com/sallyport-ci/sallyport/internal/target"
	"github.com/sallyport-ci/sallyport/internal/tlog"
)

// layoutVersion is that of the data directory: what lies where in it.
const layoutVersion = 1

// Paths in the data directory.
func ControlSocket(data string) string   { return filepath.Join(data, "run", "control.sock") }
func yardSocket(data string) string      { return filepath.Join(data, "run", "yard.sock") }
func addressFile(data string) string     { return filepath.Join(data, "run", "address") }
func settingsFile(data string) string    { return filepath.Join(data, "settings.json") }
func trustRootFile(data string) string   { return filepath.Join(data, "trusted_root.json") }
func certificateFile(data string) string { return filepath.Join(data, "certificates.pem") }
func keysDir(data string) string         { return filepath.Join(data, "keys") }
func signatureDir(data string) string    { return filepath.Join(data, "siglog") }
func auditDir(data string) string        { return filepath.Join(data, "auditlog") }
func deployDir(data string) string       { return filepath.Join(data, "deploy") }

// settings are what the first start fixes.
type settings struct {
	Version  int                `json:"version"`
	Instance string             `json:"instance"`
	Store    string             `json:"store"`
	Runner   sallyport.RunnerID `json:"runner"`
}

func (s settings) dsn(data string) string {
	if s.Store == "" {
		return "sqlite:" + filepath.Join(data, "sallyport.db")
	}
	return s.Store
}

// installation is everything that is open while Sallyport runs.
type installation struct {
	c         Config
	log       *slog.Logger
	settings  settings
	lock      *os.File
	keys      *kms.File
	store     *sqlstore.Store
	blobs     *blobstore.Dir
	logs      *blobstore.Logs
	repos     *forge.Git
	sigs      *tlog.Signatures
	sequencer *tlog.Sequencer
	feed      *feed // nil without witnesses
	target    *target.Process
	engine    *engine.Engine
	provider  *oidc.Client   // nil: there is none
	closers   []func() error // in order of opening
}

// open opens an installation, making it when the directory is new. When it
// fails everything that was opened is closed again.
func open(ctx context.Context, c Config) (*installation, error) {
	data, err := filepath.Abs(c.Data)
	if err != nil {
		return nil, err
	}
	c.Data = data
	in := &installation{c: c, log: c.Log}
	for _, step := range []func(context.Context) error{in.openDir, in.openKeys, in.openStore, in.openContent, in.openEvidence, in.openEngine} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, in.close())
		}
	}
	return in, nil
}

func (in *installation) close() error {
	var errs []error
	for i := len(in.closers) - 1; i >= 0; i-- {
		errs = append(errs, in.closers[i]())
	}
	in.closers = nil
	return errors.Join(errs...)
}

func (in *installation) onClose(f func() error) { in.closers = append(in.closers, f) }

// openDir makes the directory, takes its lock and reads or fixes its settings.
func (in *installation) openDir(context.Context) error {
	for _, dir := range []string{in.c.Data, filepath.Join(in.c.Data, "run"), filepath.Join(in.c.Data, "runner")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return sallyport.Errorf(sallyport.CodeUnavailable, "the data directory cannot be made: %v", err).WithHint("choose one that you may write with --data")
		}
	}
	lock, err := os.OpenFile(filepath.Join(in.c.Data, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return sallyport.Errorf(sallyport.CodeUnavailable, "the data directory cannot be written: %v", err).WithHint("choose another with --data")
	}
	in.onClose(lock.Close)
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return sallyport.Errorf(sallyport.CodeConflict, "another Sallyport runs on %s", in.c.Data).WithHint("stop it first, or choose another directory with --data")
	}
	in.lock = lock
	return in.openSettings()
}

func (in *installation) openSettings() error {
	s, err := readSettings(in.c.Data)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if s, err = in.firstSettings(); err != nil {
			return err
		}
		b, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return err
		}
		if err := writeFile(settingsFile(in.c.Data), append(b, '\n')); err != nil {
			return err
		}
	case err != nil:
		return err
	case in.c.Instance != "" && in.c.Instance != s.Instance:
		return sallyport.Errorf(sallyport.CodeConflict, "this installation is named %s, not %s; its name is in every signature", s.Instance, in.c.Instance).
			WithHint("leave --instance out, or use another --data")
	case in.c.Store != "" && in.c.Store != s.Store:
		return sallyport.Errorf(sallyport.CodeConflict, "this installation keeps its state in another database").WithHint("leave --store out, or use another --data")
	}
	in.settings = s
	return nil
}

// firstSettings refuses a directory that holds something else.
func (in *installation) firstSettings() (settings, error) {
	for _, file := range []string{"sallyport.db", "keys"} {
		if _, err := os.Stat(filepath.Join(in.c.Data, file)); err == nil {
			return settings{}, sallyport.Errorf(sallyport.CodeConflict, "%s holds %s but no settings.json", in.c.Data, file).
				WithHint("restore settings.json from your backup, or use another --data")
		}
	}
	name := in.c.Instance
	if name == "" {
		name = "sallyport.localhost"
	}
	if _, err := attest.ParseInstance(name); err != nil {
		return settings{}, err
	}
	return settings{Version: layoutVersion, Instance: name, Store: in.c.Store, Runner: sallyport.NewID[sallyport.RunnerID](time.Now())}, nil
}

func readSettings(data string) (settings, error) {
	var s settings
	b, err := os.ReadFile(settingsFile(data))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, sallyport.Errorf(sallyport.CodeInvalid, "%s is broken: %v", settingsFile(data), err).WithHint("restore it from your backup")
	}
	if s.Version != layoutVersion {
		return s, sallyport.Errorf(sallyport.CodeConflict, "%s has the layout of version %d, this program knows %d", data, s.Version, layoutVersion).
			WithHint("use the Sallyport that made it, or another --data")
	}
	return s, nil
}

func (in *installation) openKeys(ctx context.Context) error {
	keys, err := kms.OpenFile(keysDir(in.c.Data))
	if err != nil {
		return err
	}
	in.keys = keys
	in.onClose(keys.Close)
	return keys.Create(ctx)
}

func (in *installation) openStore(ctx context.Context) error {
	store, err := sqlstore.Open(ctx, sqlstore.Config{DSN: in.settings.dsn(in.c.Data), Clock: time.Now, Log: in.log})
	if err != nil {
		return err
	}
	in.store = store
	in.onClose(store.Close)
	return nil
}

func (in *installation) openContent(ctx context.Context) (err error) {
	if in.blobs, err = blobstore.OpenDir(blobstore.Config{Dir: filepath.Join(in.c.Data, "blobs"), KMS: in.keys}); err != nil {
		return err
	}
	in.onClose(in.blobs.Close)
	if in.logs, err = blobstore.OpenLogs(blobstore.Config{Dir: filepath.Join(in.c.Data, "logs"), KMS: in.keys}); err != nil {
		return err
	}
	in.onClose(in.logs.Close)
	in.repos, err = forge.New(ctx, forge.Config{Dir: filepath.Join(in.c.Data, "repos"), Log: in.log})
	return err
}

// openEvidence opens what signs and what checks.
func (in *installation) openEvidence(ctx context.Context) error {
	sig, err := in.keys.Signer(ctx, sallyport.KeySigLog)
	if err != nil {
		return err
	}
	audit, err := in.keys.Signer(ctx, sallyport.KeyAudit)
	if err != nil {
		return err
	}
	name := attest.Instance(in.settings.Instance)
	if in.sigs, err = tlog.OpenSignatures(ctx, tlog.Config{Dir: signatureDir(in.c.Data), Origin: name.SignatureOrigin(), Signer: sig, Log: in.log}); err != nil {
		return err
	}
	in.onClose(func() error { return closeWithin(in.sigs.Close) })
	in.sequencer, err = tlog.OpenSequencer(ctx, tlog.Config{Dir: auditDir(in.c.Data), Origin: name.AuditOrigin(), Signer: audit, Log: in.log}, engine.NewLedger(in.store))
	if err != nil {
		return err
	}
	in.onClose(func() error { return closeWithin(in.sequencer.Close) })
	pub, ok := audit.Public().(ed25519.PublicKey)
	if !ok {
		return fmt.Errorf("the key of the audit log is a %T", audit.Public())
	}
	if err := writeFile(auditKeyFile(in.c.Data), pub); err != nil || in.c.WitnessPolicy == "" {
		return err
	}
	in.feed, err = newFeed(in.c.Data, in.c.WitnessPolicy, in.log)
	return err
}

func closeWithin(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return f(ctx)
}

// authority opens the certificates, making them at the first start.
func (in *installation) authority(ctx context.Context) (*attest.Authority, error) {
	certs, err := os.ReadFile(certificateFile(in.c.Data))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	a, err := attest.NewAuthority(ctx, attest.AuthorityConfig{KMS: in.keys, Instance: attest.Instance(in.settings.Instance), Certificates: certs, Now: time.Now()})
	if err != nil {
		return nil, err
	}
	if certs == nil {
		return a, writeFile(certificateFile(in.c.Data), a.Certificates())
	}
	return a, nil
}

func (in *installation) openEngine(ctx context.Context) error {
	authority, err := in.authority(ctx)
	if err != nil {
		return err
	}
	sig, err := in.keys.Signer(ctx, sallyport.KeySigLog)
	if err != nil {
		return err
	}
	logKey := attest.LogKey{Origin: authority.Instance().SignatureOrigin(), Public: sig.Public()}
	root, err := authority.TrustedRoot(logKey)
	if err != nil {
		return err
	}
	if err := writeFile(trustRootFile(in.c.Data), root); err != nil {
		return err
	}
	notary, err := attest.NewNotary(authority, in.sigs, logKey)
	if err != nil {
		return err
	}
	verifier, err := verify.New(root)
	if err != nil {
		return err
	}
	gates, err := policy.New()
	if err != nil {
		return err
	}
	if in.target, err = in.newTarget(); err != nil {
		return err
	}
	in.onClose(in.target.Close)
	images, err := oci.New(oci.Config{Blobs: in.blobs, Registries: in.c.Registries})
	if err != nil {
		return err
	}
	from, err := in.repos.Actions(forge.ActionsConfig{Servers: in.c.Actions.Servers, Blobs: in.blobs})
	if err != nil {
		return err
	}
	logins, err := in.openLogins()
	if err != nil {
		return err
	}
	in.engine, err = engine.New(engine.Config{
		Logins:  logins,
		Actions: in.c.Actions.engine(from), Egress: in.c.Egress.Level,
		Images: images, Store: in.store, Repositories: in.repos, Blobs: in.blobs, Logs: in.logs, Gates: gates,
		Notary: notary, Verifier: verifier, Tokens: issuer.New(in.keys), Issuer: in.c.Issuer, Trail: trail{in}, Target: in.target,
		Instance: authority.Instance(), BaseURL: in.c.BaseURL, TrustRoot: root, Version: Version(), Clock: time.Now, Log: in.log,
		Untrusted: in.strangers(ctx),
		Trouble:   func() []string { return diskTrouble(in.c.Data) },
		Sealer:    in.keys,
		Rotators:  map[string]sallyport.Rotator{"postgres": rotate.Postgres{}, "http": rotate.HTTP{}},
		Known:     []sallyport.Principal{operator(), in.runnerPrincipal()},
	})
	if err != nil {
		return err
	}
	if err := in.engine.RunnerGone(ctx, in.settings.Runner); err != nil { // the lock is ours: no other runner of this installation lives
		return err
	}
	return in.engine.Reconcile(ctx)
}

func (in *installation) newTarget() (*target.Process, error) {
	exe, err := in.c.exe()
	if err != nil {
		return nil, err
	}
	data, err := filepath.Abs(in.c.Data)
	if err != nil {
		return nil, err
	}
	return target.NewProcess(target.Config{
		Dir: deployDir(data), Exe: exe, Log: in.log,
		Confine:     func(cmd *exec.Cmd) { confined(cmd, data, filepath.Base(deployDir(data))) },
		ProxyArgs:   func(dir string) []string { return []string{"proxy", "--dir", dir} },
		ReleaseArgs: func(dir string) []string { return []string{"release", "--dir", dir} },
	})
}

func (c Config) exe() (string, error) {
	if c.Exe != "" {
		return c.Exe, nil
	}
	return os.Executable()
}

// trail is the audit log for the engine.
type trail struct{ in *installation }

func (t trail) Verify(ctx context.Context) (sallyport.AuditReport, error) {
	return verifyAudit(ctx, t.in.c.Data, t.in.settings, engine.NewLedger(t.in.store))
}

func (t trail) Status() sallyport.AuditHealth {
	h := t.in.sequencer.Status()
	if t.in.feed != nil {
		h.WitnessedAt, h.Unwitnessed = t.in.feed.status()
	}
	return h
}

// writeFile replaces a file of ours in one step; it survives a power cut.
func writeFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when all went well
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return os.Rename(tmp.Name(), path)
}
