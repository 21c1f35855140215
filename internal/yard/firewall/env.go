package firewall

import (
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// Env are the variables by which the clients of a job find the registries that the host uses. A workflow that
// sets one of them itself has its own way; the door answers for the same registries then.
func (f *Firewall) Env() []sallyport.EnvVar {
	var out []sallyport.EnvVar
	set := func(name, value string) {
		if value != "" {
			out = append(out, sallyport.EnvVar{Name: name, Value: value})
		}
	}
	set("GOPROXY", withoutDirect(f.upstreams.GoProxy))
	set("GOSUMDB", f.upstreams.GoSumDB)
	set("GONOSUMDB", f.upstreams.GoNoSumDB)
	var indexes []string
	for _, u := range f.upstreams.List {
		switch u.Kind {
		case KindNPM:
			if len(u.Scopes) == 0 {
				set("npm_config_registry", u.Base.String()+"/")
			}
			for _, s := range u.Scopes {
				set("npm_config_"+s+":registry", u.Base.String()+"/")
			}
		case KindPyPI:
			indexes = append(indexes, u.Base.String()+"/")
		}
	}
	if len(indexes) > 0 {
		set("PIP_INDEX_URL", indexes[0])
		set("PIP_EXTRA_INDEX_URL", strings.Join(indexes[1:], " "))
		set("UV_DEFAULT_INDEX", indexes[0])
		set("UV_INDEX", strings.Join(indexes[1:], " "))
	}
	return out
}

// Hosts are those that Handler answers for, sorted. More may be learned.
func (f *Firewall) Hosts() []string {
	var out []string
	for _, u := range f.upstreams.List {
		out = append(out, hostname(u.Base.Host))
	}
	f.mu.Lock()
	for name := range f.learned {
		out = append(out, name)
	}
	f.mu.Unlock()
	slices.Sort(out)
	return slices.Compact(out)
}

// withoutDirect takes the words out of a GOPROXY that let a client go past all proxies: what it would reach
// is no registry, and nothing judges it.
func withoutDirect(list string) string {
	var b strings.Builder
	for list != "" {
		i := strings.IndexAny(list, ",|")
		one, sep := list, ""
		if i >= 0 {
			one, sep, list = list[:i], list[i:i+1], list[i+1:]
		} else {
			list = ""
		}
		if one = strings.TrimSpace(one); one != "" && one != "direct" {
			b.WriteString(one + sep)
		}
	}
	return strings.TrimRight(b.String(), ",|")
}
