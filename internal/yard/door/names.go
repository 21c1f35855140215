package door

import (
	"net/netip"
	"strings"
	"sync"
)

// names gives each name an address of its own, for as long as the door is open.
type names struct {
	mu     sync.Mutex
	byName map[string]netip.Addr
	byAddr map[netip.Addr]string
}

// firstName is the first address that a name may have: 198.18.1.0. There are
// 65536 from there within 198.18.0.0/15.
const firstName = 198<<24 | 18<<16 | 1<<8

// of returns the address of a name, and makes one if there are fewer than most.
func (n *names) of(host string, most int) (netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.byName[host]; ok {
		return a, true
	}
	if len(n.byName) >= most {
		return netip.Addr{}, false
	}
	if n.byName == nil {
		n.byName, n.byAddr = make(map[string]netip.Addr), make(map[netip.Addr]string)
	}
	at := uint32(firstName + len(n.byName))
	a := netip.AddrFrom4([4]byte{byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)})
	n.byName[host], n.byAddr[a] = a, host
	return a, true
}

// host returns the name that an address was given for, "" for none.
func (n *names) host(a netip.Addr) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.byAddr[a]
}

const (
	maxHost  = 253 // RFC 1035, without the last dot
	maxLabel = 63
)

// canonical returns a host as rules write it, or false when it is no DNS name
// in ASCII of letters, digits, hyphens and underscores.
func canonical(host string) (string, bool) {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "" || len(host) > maxHost {
		return "", false
	}
	label, digits := 0, true
	for i := range len(host) {
		switch c := host[i]; {
		case c == '.':
			if label == 0 {
				return "", false
			}
			label, digits = 0, true
			continue
		case c >= '0' && c <= '9':
		case c >= 'a' && c <= 'z', c == '-', c == '_':
			digits = false
		default:
			return "", false
		}
		if label++; label > maxLabel {
			return "", false
		}
	}
	return host, label > 0 && !digits // a last label of digits makes it an address
}
