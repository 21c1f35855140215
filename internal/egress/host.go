package egress

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

const (
	maxHost  = 253 // RFC 1035, without the last dot
	maxLabel = 63
)

// host reads a DNS name in lower case and ASCII; with wild, one below which all
// names are meant, which is never wider than what somebody can register.
func (r *reader) host(n *yaml.Node, wild bool) string {
	v := r.text(n, "host")
	if v == "" {
		return ""
	}
	name, star := strings.CutPrefix(v, "*.")
	why := badHost(name)
	switch {
	case star && !wild:
		why = "a credential goes to one host; write its exact name"
	case strings.Contains(name, "*"):
		why = `a star stands for whole names only, at the beginning; write "*." and the name below which all are meant`
	case why == "" && star && tooWide(name):
		why = "everybody can register names below " + name + "; name the part that is yours, or each host"
	}
	if why != "" {
		r.fail(n, "host: %s: %s", quote(n), why)
		return ""
	}
	return v
}

// ValidHost reports whether a name is one that an exact rule may hold.
func ValidHost(name string) bool { return badHost(name) == "" }

// badHost says what is wrong with an exact name, and how to mend it.
func badHost(name string) string {
	if at := strings.Index(name, "://"); at >= 0 {
		return "this is an address; write the host alone, and what follows it under paths:"
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return "rules name hosts, for an address can be given to another; write the host's name"
	}
	if i := strings.IndexAny(name, "/?#@"); i >= 0 {
		return "write the host alone, without " + name[i:i+1] + "; paths stand under paths:"
	}
	if host, port, ok := strings.Cut(name, ":"); ok {
		if _, err := strconv.ParseUint(port, 10, 16); err == nil && host != "" {
			return "write the host alone, and its port as ports: [" + port + "]"
		}
		return "a name has no colon; write the host alone"
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			ascii, err := idna.Lookup.ToASCII(name)
			if err != nil {
				return "a name outside ASCII that no registry gives out; write the ASCII form of the one you mean"
			}
			return "letters outside ASCII can look like others; write " + ascii + " if that is the host you mean"
		}
	}
	if strings.HasSuffix(name, ".") {
		return "write it without the last dot"
	}
	if lower := strings.ToLower(name); lower != name {
		return "write it in lower case: " + lower
	}
	if name == "" || len(name) > maxHost {
		return "a name has 1 to 253 characters; write the host's full name"
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if why := badLabel(l); why != "" {
			return why
		}
	}
	last := labels[len(labels)-1]
	if last == "localhost" {
		return "that is the job's own room, which it reaches without a rule; take it out"
	}
	if number(last) { // what the URL standard calls an IPv4 address
		return "a name that ends in a number is read as an address; write the host's name"
	}
	return ""
}

func badLabel(l string) string {
	switch {
	case l == "":
		return "a part between dots is empty; write the host's full name"
	case len(l) > maxLabel:
		return "a part between dots is longer than 63 characters; write the host's name as it is registered"
	case l[0] == '-' || l[len(l)-1] == '-':
		return "a part between dots begins or ends with a hyphen; write the host's name as it is registered"
	}
	for _, c := range []byte(l) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return "a host's name has letters, digits, hyphens and dots; write it so"
		}
	}
	if strings.HasPrefix(l, "xn--") {
		if _, err := idna.Lookup.ToUnicode(l); err != nil {
			return "the part " + l + " stands for no name that a registry gives out; write the host's name as it is registered"
		}
	}
	return ""
}

// number reports whether URL parsers take a last label for a part of an IPv4 address.
func number(l string) bool {
	if _, err := strconv.ParseUint(l, 10, 64); err == nil {
		return true
	}
	if strings.Trim(l, "0123456789") == "" {
		return true
	}
	return strings.HasPrefix(l, "0x") && strings.Trim(l[2:], "0123456789abcdef") == ""
}

// tooWide reports whether strangers can have names below a name: it is a public
// suffix, or above one.
func tooWide(name string) bool {
	_, err := publicsuffix.EffectiveTLDPlusOne(name)
	return err != nil
}

// below reports whether host is a name that pattern stands for.
func below(pattern, host string) bool {
	suffix, wild := strings.CutPrefix(pattern, "*")
	if !wild {
		return pattern == host
	}
	return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
}

// ports reads the ports of a rule, in order.
func (r *reader) ports(n *yaml.Node) []int {
	var out []int
	for _, item := range r.list(n, "ports", maxPorts) {
		p := r.port(item)
		if slices.Contains(out, p) && p != 0 {
			r.fail(item, "ports: %d stands twice; keep one", p)
			continue
		}
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

func (r *reader) port(n *yaml.Node) int {
	p, err := strconv.Atoi(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode || p < 1 || p > 65535 || strconv.Itoa(p) != n.Value {
		r.fail(n, "%s is not a port; write a number from 1 to 65535", quote(n))
		return 0
	}
	return p
}
