package firewall

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
)

// host is a place of files, as it is remembered over a restart: a client with a lock file asks for
// files without asking the registry first.
type host struct {
	Kind   Kind   `json:"kind"`
	Of     string `json:"of"` // the registry's address
	Scheme string `json:"scheme"`
	Host   string `json:"host"`
}

// learn remembers that a registry keeps files on a host, which jobs will ask for them.
func (f *Firewall) learn(of *Upstream, scheme, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.enter(of, scheme, name) {
		return
	}
	var all []host
	for _, list := range f.learned {
		for _, u := range list {
			all = append(all, host{u.of.Kind, u.of.Base.String(), u.Base.Scheme, u.Base.Host})
		}
	}
	raw, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(f.notes+".new", raw, 0o600)
	}
	if err == nil {
		err = os.Rename(f.notes+".new", f.notes)
	}
	if err != nil {
		f.log.Warn("the hosts of files could not be remembered", "err", err)
	}
}

// enter adds a host and reports whether it was new. f.mu is held, or nobody else has f yet.
func (f *Firewall) enter(of *Upstream, scheme, name string) bool {
	key := hostname(name)
	if slices.ContainsFunc(f.learned[key], func(u *Upstream) bool { return u.of == of }) {
		return false
	}
	if len(f.learned) >= maxLearned && f.learned[key] == nil || len(f.learned[key]) >= maxLearned {
		return false
	}
	u, err := NewUpstream(kindFiles, scheme+"://"+name)
	if err != nil {
		return false
	}
	// A registry's document names the host, so the credential is for none but the registry's own.
	if u.of = of; u.Base.Scheme == of.Base.Scheme && strings.EqualFold(u.Base.Host, of.Base.Host) {
		u.Authorization = of.Authorization
	}
	f.learned[key] = append(f.learned[key], &u)
	return true
}

// relearn takes what is configured, and what an earlier process learned. What cannot be read is learned again.
func (f *Firewall) relearn() {
	for i := range f.upstreams.List {
		u := &f.upstreams.List[i]
		for _, name := range u.Files {
			f.enter(u, u.Base.Scheme, name)
		}
	}
	raw, err := os.ReadFile(f.notes)
	if err != nil {
		return
	}
	var all []host
	if json.Unmarshal(raw, &all) != nil {
		return
	}
	for _, h := range all {
		for i := range f.upstreams.List {
			if u := &f.upstreams.List[i]; u.Kind == h.Kind && u.Base.String() == h.Of {
				f.enter(u, h.Scheme, h.Host)
			}
		}
	}
}

// files answers for a host that a registry keeps files on.
func (a answer) files(rest string) error {
	switch a.up.of.Kind {
	case KindNPM:
		if v, ok := a.j.f.npmAt(a.up, rest); ok {
			if r := a.j.known(v); r != nil {
				return r
			}
			return a.npmFile(v, rest)
		}
	case KindPyPI:
		return a.pypiFile(rest)
	case KindCargo:
		return a.crate(rest)
	}
	return &upstreamError{http.StatusNotFound, "no registry has told of a package at this path of " + printable(strings.ToLower(a.up.Base.Host), 100)}
}
