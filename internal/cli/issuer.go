package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

type issuerCmd struct {
	Show    issuerShowCmd    `cmd:"" default:"withargs" help:"Show the issuer of ID tokens of jobs, its keys and when they change."`
	Rotate  issuerRotateCmd  `cmd:"" help:"Make new keys, which sign after they have been published for a while."`
	Publish issuerPublishCmd `cmd:"" help:"Write the discovery document and the public keys into a directory, to be served elsewhere."`
}

type issuerShowCmd struct {
	remote
	output
}

func (c issuerShowCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	st, err := s.Issuers.IssuerStatus(e.ctx)
	if err != nil {
		return err
	}
	return c.print(e, st, func(w io.Writer) { issuerText(w, st, time.Now()) })
}

func issuerText(w io.Writer, st sallyport.IssuerStatus, now time.Time) {
	const layout = "2006-01-02 15:04"
	fmt.Fprintln(w, st.Issuer)
	table(w, "KEY\tALGORITHM\tSTATE\tSIGNS FROM\tGONE AT", func(line func(...any)) {
		for _, k := range st.Keys {
			gone := ""
			if !k.GoneAt.IsZero() {
				gone = k.GoneAt.Format(layout)
			}
			line(k.Kid, k.Algorithm, st.Keys.State(k, now), k.SignsFrom.Format(layout), gone)
		}
	})
	fmt.Fprintf(w, "The next keys are made on %s.\n", st.Next.Format(layout))
}

type issuerRotateCmd struct {
	remote
	output
	Lead        time.Duration `help:"How long the new keys are published before they sign; at least 1h, default 24h." placeholder:"TIME"`
	Compromised bool          `help:"The keys of before are known to others: they are gone at once, and the new ones sign."`
}

func (c issuerRotateCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	st, err := s.Issuers.RotateIssuer(e.ctx, sallyport.RotateIssuer{Lead: c.Lead, Compromised: c.Compromised})
	if err != nil {
		return err
	}
	return c.print(e, st, func(w io.Writer) {
		issuerText(w, st, time.Now())
		fmt.Fprintln(e.stderr, "Where the keys are published elsewhere, publish them again now.")
	})
}

type issuerPublishCmd struct {
	remote
	Dir string `arg:"" help:"Directory; made when missing."`
}

func (c issuerPublishCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	issuer, keys, err := s.Instance.TokenIssuer(e.ctx)
	if err != nil {
		return err
	}
	// Keys first: whoever reads the other finds them.
	for _, f := range []struct {
		path    string
		content []byte
	}{{sallyport.KeySetPath, append(keys, '\n')}, {sallyport.DiscoveryPath, sallyport.DiscoveryDocument(issuer)}} {
		name := filepath.Join(c.Dir, filepath.FromSlash(f.path))
		if err := replaceFile(name, f.content); err != nil {
			return fmt.Errorf("publish %s: %w", f.path, err)
		}
		fmt.Fprintf(e.stdout, "%s\t%s%s\n", name, strings.TrimRight(issuer, "/"), f.path)
	}
	fmt.Fprintln(e.stderr, "Serve each file at its address as application/json, to be kept for at most an hour; publish again at least once a day.")
	return nil
}

// replaceFile has a public file with the whole content or as it was.
func replaceFile(name string, content []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".publish-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
