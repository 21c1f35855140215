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
	"github.com/sallyport-ci/sallyport/internal/witness"
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
func VerifyAudit(ctx context.Context, data string) (report sallyport.AuditReport, err error) {
	err = withTrail(ctx, data, func(s settings, source tlog.Source) error {
		report, err = verifyAudit(ctx, data, s, source)
		return err
	})
	return report, err
}

// withTrail lends the audit trail of a directory, whether the installation runs
// or not.
func withTrail(ctx context.Context, data string, f func(settings, tlog.Source) error) error {
	s, err := readSettings(data)
	if errors.Is(err, os.ErrNotExist) {
		return noInstallation(data)
	}
	if err != nil {
		return err
	}
	store, err := sqlstore.Open(ctx, sqlstore.Config{DSN: s.dsn(data), Clock: time.Now, Log: slog.New(slog.DiscardHandler), Existing: true})
	if err != nil {
		return err
	}
	defer store.Close()
	return f(s, engine.NewLedger(store))
}

func auditKey(data string) (ed25519.PublicKey, error) {
	key, err := os.ReadFile(auditKeyFile(data))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, sallyport.Errorf(sallyport.CodeConflict, "the public key of the audit log is missing or broken").WithHint("restore auditlog.pub from your backup")
	}
	return key, nil
}

func verifyAudit(ctx context.Context, data string, s settings, source tlog.Source) (sallyport.AuditReport, error) {
	key, err := auditKey(data)
	if err != nil {
		return sallyport.AuditReport{}, err
	}
	return tlog.VerifyAudit(ctx, source, auditDir(data), attest.Instance(s.Instance).AuditOrigin(), key)
}

// AuditKey returns the verifier key of the audit log of a directory.
func AuditKey(data string) (string, error) {
	s, err := readSettings(data)
	if errors.Is(err, os.ErrNotExist) {
		return "", noInstallation(data)
	}
	if err != nil {
		return "", err
	}
	key, err := auditKey(data)
	if err != nil {
		return "", err
	}
	return tlog.LogKey(attest.Instance(s.Instance).AuditOrigin(), key)
}

// ExportAudit writes the audit trail of a directory and its log to a new
// directory, whether the installation runs or not.
func ExportAudit(ctx context.Context, data, out string) error {
	if _, err := os.Lstat(out); err == nil {
		return sallyport.Errorf(sallyport.CodeConflict, "%s is there already", out).WithHint("name a directory that is not there yet")
	}
	return withTrail(ctx, data, func(_ settings, source tlog.Source) error {
		witnessed, err := os.ReadFile(witnessedFile(data))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return tlog.Export(ctx, source, auditDir(data), witnessed, out)
	})
}

// VerifyExport checks an export with nothing but a witness policy; within bounds
// the age of the cosignatures.
func VerifyExport(ctx context.Context, dir, policyFile string, within time.Duration) (tlog.ExportReport, error) {
	policy, err := readPolicy(policyFile)
	if err != nil {
		return tlog.ExportReport{}, err
	}
	return tlog.VerifyExport(ctx, dir, tlog.ExportCheck{Policy: policy, Within: within, Now: time.Now()})
}

func readPolicy(file string) (*witness.Policy, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the witness policy cannot be read: %v", err)
	}
	return witness.ParsePolicy(text)
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
