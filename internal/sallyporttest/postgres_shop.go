package sallyporttest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Shop is a real database that wants SCRAM of everybody but its owner, on loopback. It has
// the roles app, which may log in, reader and other, and the table items with the row 42.
type Shop struct {
	t     testing.TB
	Port  int
	Owner *pgx.Conn
}

// NewShop starts the server; with TLS it has a certificate that nobody trusts.
func NewShop(t testing.TB, password string, withTLS bool) *Shop {
	t.Helper()
	dir := t.TempDir()
	for p := dir; len(p) > 1; p = filepath.Dir(p) { // the server runs as another user
		if err := os.Chmod(p, 0o755); err != nil || p == filepath.Clean(os.TempDir()) {
			break
		}
	}
	hba := filepath.Join(dir, "hba")
	if err := os.WriteFile(hba, []byte("local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &Shop{t: t, Port: l.Addr().(*net.TCPAddr).Port}
	settings := []string{"fsync=off", "listen_addresses=127.0.0.1", fmt.Sprintf("port=%d", d.Port), "hba_file=" + hba, "password_encryption=scram-sha-256"}
	if withTLS {
		cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
		selfSigned(t, cert, key)
		settings = append(settings, "ssl=on", "ssl_cert_file="+cert, "ssl_key_file="+key)
	}
	l.Close()
	server := Postgres(t, settings...)
	if d.Owner, err = pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", server.Socket(), d.Port)); err != nil {
		t.Fatal(err)
	}
	d.Exec("CREATE DATABASE shop")
	d.Owner.Close(t.Context())
	if d.Owner, err = pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%d user=postgres dbname=shop", server.Socket(), d.Port)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Owner.Close(context.Background()) })
	d.Exec(fmt.Sprintf("CREATE ROLE app LOGIN PASSWORD '%s'; CREATE ROLE reader; CREATE ROLE other; CREATE TABLE items AS SELECT 42 AS n; GRANT SELECT ON items TO app, reader", password))
	return d
}

// Exec runs SQL as the owner.
func (d *Shop) Exec(sql string) {
	d.t.Helper()
	if _, err := d.Owner.Exec(d.t.Context(), sql); err != nil {
		d.t.Fatal(err)
	}
}

// selfSigned writes a certificate that nobody trusts, readable to the server's user as PostgreSQL wants it.
func selfSigned(t testing.TB, cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "elsewhere"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kd, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kd}), 0o640); err != nil { // 0640 is taken from root
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if out, err := exec.Command("chgrp", "postgres", key).CombinedOutput(); err != nil {
			t.Skipf("the key cannot be given to the server: %s", out)
		}
	} else if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
}
