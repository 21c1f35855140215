package oidc

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport"
)

// File is what an operator says about the company's provider of identities.
type File struct {
	// Name is what the login page calls it.
	Name   string `yaml:"name"`
	Issuer string `yaml:"issuer"` // exactly as its tokens say
	// ClientID is what the provider calls this installation.
	ClientID string `yaml:"client_id"`
	// ClientSecretFile holds the client's secret; "" for a client that has none.
	ClientSecretFile string   `yaml:"client_secret_file"`
	Scopes           []string `yaml:"scopes"` // beside openid
	// Account is the claim that names the person for ever; "" is sub.
	Account string `yaml:"account"`
	// Groups is the claim that lists the groups of the person; "" is groups.
	Groups string `yaml:"groups"`
	// Teams are the groups that put a person in each team, exact.
	Teams  map[string][]string `yaml:"teams"`
	Admit  *Admit              `yaml:"admit"`
	StepUp *StepUp             `yaml:"step_up"`
}

// Admit says who gets an account at the first login: whoever meets all that it says.
type Admit struct {
	// EmailDomain is that of the address which the provider verified, exact.
	EmailDomain string `yaml:"email_domain"`
	// Teams are those in one of which the person is by their groups.
	Teams []string `yaml:"teams"`
}

// StepUp says what a login must be for what is sensitive.
type StepUp struct {
	MaxAge time.Duration `yaml:"max_age"` // since the person proved who they are
	// ACR and AMR list what the provider's token may say of how (OpenID Connect Core 1.0,
	// section 2): one of each list that is not empty.
	ACR []string `yaml:"acr"`
	AMR []string `yaml:"amr"`
}

// Bounds of the file, and of what it lists.
const (
	MaxFile    = 64 << 10
	maxListed  = 1000
	maxStepUp  = time.Hour
	defaultAge = 5 * time.Minute
)

// changing are claims that a provider gives to somebody else one day.
var changing = []string{"email", "preferred_username", "name", "nickname", "given_name", "family_name", "upn", "unique_name", "phone_number"}

// ParseFile reads a file of the operator. Unknown keys are errors; defaults are set.
func ParseFile(src []byte) (File, error) {
	var f File
	if len(src) > MaxFile {
		return f, invalid("it is larger than %d bytes", MaxFile)
	}
	d := yaml.NewDecoder(bytes.NewReader(src))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		if errors.Is(err, io.EOF) {
			return f, invalid("it is empty")
		}
		return f, invalid("%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return f, invalid("it has more than one document")
	}
	f.defaults()
	return f, f.check()
}

func invalid(format string, args ...any) error {
	return sallyport.Errorf(sallyport.CodeInvalid, format, args...).WithHint("docs/guide/access.md says what the file may hold")
}

func (f *File) defaults() {
	if f.Account == "" {
		f.Account = "sub"
	}
	if f.Groups == "" {
		f.Groups = "groups"
	}
	if f.Name == "" {
		if u, err := url.Parse(f.Issuer); err == nil {
			f.Name = u.Hostname()
		}
	}
	if f.StepUp != nil && f.StepUp.MaxAge == 0 {
		f.StepUp.MaxAge = defaultAge
	}
}

func (f File) check() error {
	if err := secure(f.Issuer); err != nil {
		return invalid("issuer: %v", err)
	}
	switch {
	case f.ClientID == "":
		return invalid("client_id is missing")
	case len(f.Name) > 100:
		return invalid("name has more than 100 bytes")
	case slices.Contains(changing, f.Account):
		return invalid("account: %q may be another person's one day; sub never is", f.Account)
	case len(f.Scopes) > 50 || len(f.Teams) > maxListed:
		return invalid("there are more than 50 scopes or %d teams", maxListed)
	}
	for team, groups := range f.Teams {
		if err := sallyport.ValidName("team", team); err != nil {
			return err
		}
		if len(groups) == 0 || len(groups) > maxListed || slices.Contains(groups, "") {
			return invalid("teams: %s needs the names of 1 to %d groups", team, maxListed)
		}
	}
	if a := f.Admit; a != nil {
		if a.EmailDomain == "" && len(a.Teams) == 0 {
			return invalid("admit lets everybody in who has an account there; say email_domain, teams or both")
		}
		if a.EmailDomain != strings.ToLower(a.EmailDomain) || strings.ContainsAny(a.EmailDomain, "@*/ ") {
			return invalid("admit: %.80q is not a domain as example.com", a.EmailDomain)
		}
		for _, team := range a.Teams {
			if _, ok := f.Teams[team]; !ok {
				return invalid("admit: no group puts anybody in team %.80q", team)
			}
		}
	}
	if s := f.StepUp; s != nil && (s.MaxAge < time.Second || s.MaxAge > maxStepUp) {
		return invalid("step_up: max_age is from 1s to %s", maxStepUp)
	}
	return nil
}

// secure refuses addresses at which somebody on the way could answer.
func secure(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return errors.New("it is not an address as https://id.example.com")
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return errors.New("it must begin with https://")
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
