package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/daemon"
)

type verifyCmd struct {
	output
	File        string `arg:"" help:"The file." type:"existingfile"`
	Bundle      string `help:"Its Sigstore bundle." required:"" type:"existingfile" placeholder:"FILE"`
	TrustedRoot string `help:"The trusted root: output of sallyport trust-root." required:"" type:"existingfile" placeholder:"FILE"`
	Identity    string `help:"Certificate identity that must have signed." required:"" placeholder:"URI"`
	Issuer      string `help:"Issuer that the certificate must name." required:"" placeholder:"URL"`
}

const maxBundle = 8 << 20

func (c verifyCmd) Run(e *env) error {
	root, err := readBounded(c.TrustedRoot)
	if err != nil {
		return err
	}
	bundle, err := readBounded(c.Bundle)
	if err != nil {
		return err
	}
	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := daemon.VerifyFile(f, bundle, root, c.Identity, c.Issuer)
	if err != nil {
		if c.JSON {
			m, _ := sallyport.ErrorMessage(err)
			_ = json.NewEncoder(e.stdout).Encode(map[string]any{"verified": false, "error": m})
		} else {
			fmt.Fprintf(e.stderr, "NOT verified: %v\n", err)
		}
		return exitError(exitFailed)
	}
	return c.print(e, struct {
		Verified bool `json:"verified"`
		sallyport.Checked
	}{true, got}, func(w io.Writer) {
		fmt.Fprintf(w, "Verified OK\n  digest     %s\n  predicate  %s\n  identity   %s\n  issuer     %s\n  signed at  %s\n  log index  %d\n",
			got.Subject, got.PredicateType, got.Identity, got.Issuer, got.SignedAt.UTC().Format(time.RFC3339), got.LogIndex)
	})
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBundle+1))
	if err == nil && len(b) > maxBundle {
		err = sallyport.Errorf(sallyport.CodeInvalid, "%s is larger than %d bytes", name, maxBundle)
	}
	return b, err
}

type trustRootCmd struct{ remote }

func (c trustRootCmd) Run(e *env) error {
	if c.URL == "" { // the file is there also when nothing runs
		b, err := daemon.TrustRoot(c.Data)
		if err != nil {
			return err
		}
		_, err = e.stdout.Write(append(b, '\n'))
		return err
	}
	s, err := c.services()
	if err != nil {
		return err
	}
	b, err := s.Instance.TrustRoot(e.ctx)
	if err != nil {
		return err
	}
	_, err = e.stdout.Write(append(b, '\n'))
	return err
}
