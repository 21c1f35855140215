package daemon

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/attest"
	"github.com/sallyport-ci/sallyport/internal/attest/verify"
	"github.com/sallyport-ci/sallyport/internal/blobstore"
	"github.com/sallyport-ci/sallyport/internal/engine"
	"github.com/sallyport-ci/sallyport/internal/sqlstore"
	"github.com/sallyport-ci/sallyport/internal/tlog"
)

func auditKeyFile(data string) string { return filepath.Join(data, "auditlog.pub") }

// Version of the program, from its build.
func Version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "0.1.0-dev"
}

// VerifyFile checks a file against its bundle with nothing but the trusted root.
func VerifyFile(content io.Reader, bundle, trustedRoot []byte, identity, issuer string) (sallyport.Checked, error) {
	v, err := verify.New(trustedRoot)
	if err != nil {
		return sallyport.Checked{}, err
	}
	return v.VerifyFile(content, bundle, identity, issuer)
}

// TrustRoot returns the trusted root of the installation in a directory.
func TrustRoot(data string) ([]byte, error) {
	b, err := os.ReadFile(trustRootFile(data))
	if errors.Is(err, os.ErrNotExist) {
		return nil, noInstallation(data)
	}
	return b, err
}

func noInstallation(data string) error {
	return sallyport.Errorf(sallyport.CodeNotFound, "there is no installation in %s", data).WithHint("name its directory with --data, or make one with: sallyport up --data %s", data)
}

// VerifyAudit checks the audit trail of a directory against its log, whether
// the installation runs or not, without asking it.
func VerifyAudit(ctx context.Context, data string) (sallyport.AuditReport, error) {
	s, err := readSettings(data)
	if errors.Is(err, os.ErrNotExist) {
		return sallyport.AuditReport{}, noInstallation(data)
	}
	if err != nil {
		return sallyport.AuditReport{}, err
	}
	store, err := sqlstore.Open(ctx, sqlstore.Config{DSN: s.dsn(data), Clock: time.Now, Log: slog.New(slog.DiscardHandler), Existing: true})
	if err != nil {
		return sallyport.AuditReport{}, err
	}
	defer store.Close()
	return verifyAudit(ctx, data, s, engine.NewLedger(store))
}

func verifyAudit(ctx context.Context, data string, s settings, source tlog.Source) (sallyport.AuditReport, error) {
	key, err := os.ReadFile(auditKeyFile(data))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return sallyport.AuditReport{}, sallyport.Errorf(sallyport.CodeConflict, "the public key of the audit log is missing or broken").WithHint("restore auditlog.pub from your backup")
	}
	return tlog.VerifyAudit(ctx, source, auditDir(data), attest.Instance(s.Instance).AuditOrigin(), ed25519.PublicKey(key))
}

// BlobFile is where the sealed content of an artifact lies.
func BlobFile(data string, a sallyport.Artifact) string {
	return blobstore.File(filepath.Join(data, "blobs"), a.Scope(), a.Digest)
}

// StopReleases stops the releases and the traffic proxy of an installation
// that does not run any more; else they go on without it.
func StopReleases(ctx context.Context, data string) error {
	data, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	if _, err := readSettings(data); errors.Is(err, os.ErrNotExist) {
		return noInstallation(data)
	}
	in := &installation{c: Config{Data: data}, log: slog.New(slog.DiscardHandler)}
	t, err := in.newTarget()
	if err != nil {
		return err
	}
	return errors.Join(t.Stop(ctx), t.Close())
}
