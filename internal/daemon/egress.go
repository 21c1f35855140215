package daemon

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/advisory"
	"github.com/sallyport-ci/sallyport/internal/yard/door"
	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
	"github.com/sallyport-ci/sallyport/internal/yard/runner"
)

// EgressConfig is what an operator says about how far jobs may reach.
type EgressConfig struct {
	// Level is that of projects that declare none; "" is none.
	Level sallyport.EgressLevel
	// Private names what rules may reach although it is not public; see door.ParsePrivate.
	Private []string
	// Advisories is a directory of advisories in OSV's format; "" for none.
	Advisories string
	// Registries is a file of package registries in place of those of the host's clients; "" for none.
	Registries string
}

// open makes the runner's part. dir is for the cache of packages, env the environment in which
// the host's package clients are configured.
func (c EgressConfig) open(dir string, env func(string) string, log *slog.Logger) (runner.Egress, error) {
	private, err := door.ParsePrivate(c.Private)
	if err != nil {
		return runner.Egress{}, err
	}
	var known *advisory.Store
	if c.Advisories != "" {
		if known, err = advisory.Open(os.DirFS(c.Advisories), time.Now, log); err != nil {
			return runner.Egress{}, (&sallyport.Error{Code: sallyport.CodeInvalid, Message: "the advisories cannot be read", Err: err}).
				WithHint("name a directory of OSV records, or of OSV's ZIP files")
		}
	}
	var file []byte
	if c.Registries != "" {
		if file, err = os.ReadFile(c.Registries); err != nil {
			return runner.Egress{}, sallyport.Errorf(sallyport.CodeInvalid, "the file of package registries cannot be read").WithHint("look at %s", c.Registries)
		}
	}
	upstreams, notes, err := firewall.DiscoverWith(firewall.Host{FS: os.DirFS("/"), Env: env}, file)
	if err != nil {
		return runner.Egress{}, sallyport.Errorf(sallyport.CodeInvalid, "%s: %w", filepath.Base(c.Registries), err)
	}
	for _, n := range notes {
		log.Info("package registries were looked for", "note", n)
	}
	// The host's own clients are configured to use these, wherever they are.
	registries := door.Private{Nets: private.Nets, Hosts: map[string][]netip.Addr{}}
	for _, host := range upstreams.Hosts() {
		registries.Hosts[host] = nil
	}
	for host, addrs := range private.Hosts {
		registries.Hosts[host] = addrs
	}
	transport := (&door.Dialer{Private: registries}).Transport(nil)
	transport.MaxConnsPerHost = 0        // all jobs share it: one that reads slowly must not keep others from a registry
	transport.DisableCompression = false // what registries say of packages is long, and packs well
	packages, err := firewall.New(firewall.Config{
		Upstreams: upstreams, Transport: transport, Advisories: known, CacheDir: dir, Now: time.Now, Log: log,
	})
	return runner.Egress{Dialer: &door.Dialer{Private: private}, Firewall: packages}, err
}

// registryEnv names the variables in which package clients are told where registries are. The
// runner gets these of our own environment, beside its few others.
var registryEnv = [...]string{
	"GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOENV", "GOROOT", "CARGO_HOME",
	"CARGO_REGISTRIES_CRATES_IO_INDEX", "CARGO_REGISTRY_INDEX", "NETRC", "npm_config_registry", "NPM_CONFIG_REGISTRY",
	"npm_config_userconfig", "NPM_CONFIG_USERCONFIG", "npm_config_globalconfig", "NPM_CONFIG_GLOBALCONFIG",
	"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "PYENV_ROOT", "XDG_CONFIG_HOME",
}

// homeEnv is our environment with another HOME: the runner's own is nowhere.
func homeEnv(home string) func(string) string {
	return func(name string) string {
		if name == "HOME" {
			return home
		}
		return os.Getenv(name)
	}
}

// packageCache is where local runs keep packages: the user's own cache, which they share, or tmp
// when there is none.
func packageCache(tmp string) string {
	base, err := os.UserCacheDir()
	if err != nil || !filepath.IsAbs(base) {
		return filepath.Join(tmp, "packages")
	}
	return filepath.Join(base, "sallyport", "packages")
}

// proxiesSet names the variables by which this host's clients are sent through an HTTP proxy. Doors
// refuse to: the proxy would look up names itself, after us, and connect where the door could not judge.
func proxiesSet(env func(string) string) (names []string) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		if env(name) != "" {
			names = append(names, name)
		}
	}
	return names
}
