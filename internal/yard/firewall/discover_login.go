package firewall

import (
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// machine is an entry of netrc or of apt's auth.conf.
type machine struct {
	host          string // with a path, as apt allows
	authorization sallyport.Secret
}

// netrc reads the credentials that go, pip and apt have for hosts.
func (d *discovery) netrc() {
	file := d.h.Env("NETRC")
	if file == "" {
		file = d.home(".netrc")
	}
	for _, file := range append([]string{file, "/etc/apt/auth.conf"}, d.list("/etc/apt/auth.conf.d", ".conf")...) {
		text, _ := d.read(file)
		d.machines = append(d.machines, machines(text)...)
	}
}

// machines reads the words of a netrc. Macros end it: no registry's client runs them.
func machines(text string) []machine {
	var out []machine
	host, login, password := "", "", ""
	end := func() {
		if host != "" && (login != "" || password != "") {
			out = append(out, machine{host, basic(login, password)})
		}
		host, login, password = "", "", ""
	}
	var words []string
	for line := range strings.Lines(text) {
		if bare := strings.TrimSpace(line); bare != "" && bare[0] != '#' {
			words = append(words, strings.Fields(bare)...)
		}
	}
	for i := 0; i+1 < len(words); i += 2 {
		switch value := words[i+1]; words[i] {
		case "machine":
			end()
			host = strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(value), "https://"), "http://")
		case "login":
			login = value
		case "password":
			password = value
		case "account":
		default: // macdef, default
			end()
			return out
		}
	}
	end()
	return out
}

// credentials gives the registries those of the host's client. User information in an address goes first. A
// credential without a scheme is sent over TLS alone.
func (d *discovery) credentials() {
	for i := range d.out.List {
		u := &d.out.List[i]
		if !u.Authorization.Empty() || u.Base.Scheme != "https" {
			continue
		}
		if u.Kind == KindNPM {
			u.Authorization = d.npmTokenFor(u)
			continue
		}
		for _, m := range d.machines {
			if host, dir, _ := strings.Cut(m.host, "/"); host == u.Base.Host || host == hostname(u.Base.Host) {
				if strings.HasPrefix(u.Base.Path+"/", "/"+dir) {
					u.Authorization = m.authorization
					break
				}
			}
		}
	}
}

// npmTokenFor returns the credential of the longest place that the registry lies below.
func (d *discovery) npmTokenFor(u *Upstream) (found sallyport.Secret) {
	place, best := u.Base.Host+u.Base.Path+"/", -1
	for _, t := range d.tokens {
		if strings.HasPrefix(place, t.place) && len(t.place) > best {
			found, best = t.authorization, len(t.place)
		}
	}
	return found
}
