package firewall

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// Kind is a protocol of package registries.
type Kind string

const (
	KindGo     Kind = "go"     // the module proxy protocol
	KindNPM    Kind = "npm"    // npm's registry API
	KindPyPI   Kind = "pypi"   // the simple repository API
	KindCargo  Kind = "cargo"  // the sparse index protocol
	KindDebian Kind = "debian" // an apt archive

	// kindFiles is a host that one of the others keeps files on.
	kindFiles Kind = "files"
)

// Upstream is a registry.
type Upstream struct {
	Kind Kind
	// Base is its address, without credentials, query and closing slash.
	Base *url.URL
	// Authorization is the header that the host's client would send; no job sees it.
	Authorization sallyport.Secret
	// Scopes are those of npm whose packages come from here; none: all others.
	Scopes []string
	// Files are other hosts that the registry is known to keep its files on; more are learned.
	Files []string
	// Suites and Components are those of a Debian archive that the host uses.
	Suites, Components []string

	of *Upstream // of kindFiles: whose files they are
}

// SumDB is a database of the checksums of Go modules.
type SumDB struct {
	Name string
	Key  string // the verifier's; "" when the host does not know it: nothing is checked then
}

// Upstreams are the registries that jobs may use, in the order in which clients ask them.
type Upstreams struct {
	List []Upstream
	// Go's own words for the clients of jobs.
	GoProxy   string // GOPROXY as the host has it, without credentials
	GoSumDB   string // GOSUMDB likewise; "off" is none
	GoNoSumDB string // patterns of modules that no checksum database knows
	GoPrivate string
	Sum       SumDB
	// Redirects are other hosts that registries may lead to, by an operator's word.
	Redirects []string
}

// NewUpstream makes an Upstream of an address, whose user information becomes its credential.
func NewUpstream(kind Kind, address string) (Upstream, error) {
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil {
		return Upstream{}, errors.New("it is no address") // url.Parse's own words would quote the password
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "" {
		return Upstream{}, fmt.Errorf("%.100q is no address of a web server", u.Redacted())
	}
	if slices.Contains(strings.Split(u.Path, "/"), "..") {
		return Upstream{}, fmt.Errorf("%.100q leads out of itself", u.Redacted())
	}
	up := Upstream{Kind: kind}
	if u.User != nil {
		password, _ := u.User.Password()
		up.Authorization = basic(u.User.Username(), password)
	}
	up.Base = &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host), Path: strings.TrimRight(u.Path, "/")}
	return up, nil
}

func basic(user, password string) sallyport.Secret {
	return sallyport.NewSecret([]byte("Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))))
}

// source names u in records.
func (u *Upstream) source() string {
	if u.of != nil {
		return u.of.source()
	}
	return u.Base.String()
}

// at returns the address below the base that path, which is already escaped, names.
func (u *Upstream) at(path string) (*url.URL, error) {
	return url.Parse(u.Base.String() + "/" + strings.TrimPrefix(path, "/"))
}

// below reports whether the escaped path lies below the base, and what remains of it.
func (u *Upstream) below(path string) (rest string, ok bool) {
	base := u.Base.EscapedPath()
	rest, ok = strings.CutPrefix(path, base)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return strings.TrimPrefix(rest, "/"), true
}

// hostname is a host without its port.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}
