package daemon

import (
	"bytes"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/engine"
	"github.com/sallyport-ci/sallyport/internal/oidc"
)

// openLogins reads the operator's file about the company's provider of identities; nil
// without one. The provider is not asked yet.
func (in *installation) openLogins() (*engine.LoginRules, error) {
	if in.c.OIDC == "" {
		return nil, nil
	}
	src, err := readBounded(in.c.OIDC, oidc.MaxFile)
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the file about the provider of identities cannot be read: %v", err).WithHint("look at --oidc")
	}
	f, err := oidc.ParseFile(src)
	if err != nil {
		message, hint := sallyport.ErrorMessage(err)
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s: %s", in.c.OIDC, message).WithHint("%s", hint)
	}
	c := oidc.Config{File: f, Redirect: strings.TrimSuffix(in.c.BaseURL, "/") + sallyport.LoginCallback, Now: time.Now, Log: in.log}
	if f.ClientSecretFile != "" {
		secret, err := readBounded(f.ClientSecretFile, 4<<10)
		if err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the client's secret cannot be read: %v", err).WithHint("look at client_secret_file in %s", in.c.OIDC)
		}
		c.Secret = sallyport.NewSecret(bytes.TrimSpace(secret))
	}
	if in.provider, err = oidc.New(c); err != nil {
		return nil, err
	}
	rules := &engine.LoginRules{Issuer: f.Issuer, Teams: f.Teams}
	if f.Admit != nil {
		rules.Admit = &engine.Admission{EmailDomain: f.Admit.EmailDomain, Teams: f.Admit.Teams}
	}
	if f.StepUp != nil {
		rules.Fresh = f.StepUp.MaxAge
	}
	return rules, nil
}

// readBounded reads a file of the operator.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "it is larger than %d bytes", limit)
	}
	return b, err
}
