package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/witness"
)

// WitnessConfig is of a witness: a process on a host that those who run the
// followed logs cannot reach.
type WitnessConfig struct {
	Data    string // its key and what it has seen; made when missing
	Name    string // in its key; fixed when the key is made
	Logs    string // file in the format of a witness policy that lists the logs
	Listen  string
	TLSCert string // PEM; optional, for all that is sent is signed and public
	TLSKey  string
	Log     *slog.Logger
}

func witnessKeyFile(data string) string { return filepath.Join(data, "witness.key") }

// WitnessKey returns the verifier key of the witness in a directory. It makes the
// key under the given name when there is none and the name is not "".
func WitnessKey(data, name string) (string, error) {
	signer, err := witnessSigner(data, name)
	if err != nil {
		return "", err
	}
	return witness.VerifierKey(signer)
}

func witnessSigner(data, name string) (string, error) {
	b, err := os.ReadFile(witnessKeyFile(data))
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if name == "" {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "there is no witness in %s, and a new one needs a name", data).
			WithHint("give --name, as witness.example.com")
	}
	if seen, err := filepath.Glob(filepath.Join(witnessState(data), "*.seen")); err != nil || len(seen) > 0 {
		return "", errors.Join(err, sallyport.Errorf(sallyport.CodeConflict, "the witness in %s has lost its key", data).WithHint("restore witness.key from your backup, or choose a new directory"))
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return "", err
	}
	signer, err := witness.MakeKey(name)
	if err != nil {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "%.100q cannot be the name of a witness", name).WithHint("give --name, as witness.example.com")
	}
	return signer, writeFile(witnessKeyFile(data), []byte(signer+"\n"))
}

func witnessState(data string) string { return filepath.Join(data, "seen") }

// Witness serves until ctx ends. ready is called with address and verifier key
// when it does.
func Witness(ctx context.Context, c WitnessConfig, ready func(url, vkey string)) error {
	text, err := os.ReadFile(c.Logs)
	if err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "the list of logs cannot be read: %v", err).WithHint("give --logs FILE with a line for each log: log VKEY")
	}
	logs, err := witness.ParseLogs(text)
	if err != nil {
		return err
	}
	signer, err := witnessSigner(c.Data, c.Name)
	if err != nil {
		return err
	}
	vkey, err := witness.VerifierKey(signer)
	if err != nil {
		return err
	}
	w, err := witness.New(witness.Config{Dir: witnessState(c.Data), Key: signer, Policy: logs, Log: c.Log})
	if err != nil {
		return err
	}
	defer w.Close()
	l, err := listen(Config{Listen: c.Listen, TLSCert: c.TLSCert, TLSKey: c.TLSKey})
	if err != nil {
		return err
	}
	return serveWitness(ctx, l, w.Handler(), func() {
		ready(Config{TLSCert: c.TLSCert}.scheme()+"://"+l.Addr().String(), vkey)
	})
}

func serveWitness(ctx context.Context, l net.Listener, h http.Handler, ready func()) error {
	const limit = 10 * time.Second // of a request of 64 KiB and its answer
	srv := &http.Server{Handler: h, ReadTimeout: limit, WriteTimeout: limit, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	ready()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return srv.Shutdown(stop)
}
