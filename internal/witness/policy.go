package witness

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/sallyport-ci/sallyport"
)

const (
	// maxPolicy and maxMembers bound a policy file.
	maxPolicy  = 64 << 10
	maxMembers = 256
)

// Policy says which logs are meant and whose cosignatures make one of their
// checkpoints believable (C2SP tlog-policy). Lines are
//
//	log VKEY [URL]
//	witness NAME VKEY [URL]
//	group NAME K|any|all MEMBER…
//	quorum NAME|none
//
// and comments after #. What is named must stand above. A member belongs to one
// group and a key to one witness, so that nobody counts twice.
type Policy struct {
	logs    []note.Verifier
	members []member // in the order of the file: a group after its members
	quorum  int      // index of members; none or unset
}

const (
	quorumUnset = -1
	quorumNone  = -2
)

// member is a witness or a group.
type member struct {
	name  string
	key   note.Verifier // nil for a group
	vkey  string        // the key as it was written
	url   string
	of    []int // members of the group
	least int   // how many of them
}

// Peer is a witness to ask for cosignatures.
type Peer struct {
	Name string
	URL  string // without /add-checkpoint
	Key  note.Verifier
}

// ParsePolicy reads a policy that says what is enough: it must have a quorum.
func ParsePolicy(b []byte) (*Policy, error) {
	p, err := parsePolicy(b)
	if err == nil && p.quorum == quorumUnset {
		return nil, invalid(0, "there is no quorum")
	}
	return p, err
}

// ParseLogs reads which logs to follow: a policy that needs no quorum.
func ParseLogs(b []byte) (*Policy, error) { return parsePolicy(b) }

func invalid(line int, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if line > 0 {
		text = fmt.Sprintf("line %d: %s", line, text)
	}
	return sallyport.Errorf(sallyport.CodeInvalid, "witness policy: %s", text).
		WithHint("lines are: log VKEY, witness NAME VKEY [URL], group NAME K|any|all MEMBER…, quorum NAME|none")
}

func parsePolicy(b []byte) (*Policy, error) {
	if len(b) > maxPolicy {
		return nil, invalid(0, "it is larger than %d bytes", maxPolicy)
	}
	p := &Policy{quorum: quorumUnset}
	for i, line := range bytes.Split(b, []byte("\n")) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		f := strings.Fields(string(line))
		if len(f) == 0 {
			continue
		}
		if len(p.members)+len(p.logs) >= maxMembers {
			return nil, invalid(i+1, "there are more than %d logs, witnesses and groups", maxMembers)
		}
		if err := p.line(i+1, f); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Policy) line(n int, f []string) error {
	switch {
	case f[0] == "log" && (len(f) == 2 || len(f) == 3):
		return p.addLog(n, f[1])
	case f[0] == "witness" && (len(f) == 3 || len(f) == 4):
		return p.addWitness(n, f[1], f[2], f[3:])
	case f[0] == "group" && len(f) >= 4:
		return p.addGroup(n, f[1], f[2], f[3:])
	case f[0] == "quorum" && len(f) == 2:
		if p.quorum != quorumUnset {
			return invalid(n, "there is a quorum already")
		}
		if p.quorum = p.find(f[1]); f[1] == "none" {
			p.quorum = quorumNone
		} else if p.quorum < 0 {
			return invalid(n, "%.60q is not known yet", f[1])
		}
		return nil
	}
	return invalid(n, "this is no line of a policy")
}

func (p *Policy) addLog(n int, vkey string) error {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return invalid(n, "the log's key is not an Ed25519 verifier key")
	}
	if slices.ContainsFunc(p.logs, func(o note.Verifier) bool { return o.Name() == v.Name() }) {
		return invalid(n, "log %.60q is there already", v.Name())
	}
	p.logs = append(p.logs, v)
	return nil
}

func (p *Policy) addWitness(n int, name, vkey string, address []string) error {
	if err := p.free(n, name); err != nil {
		return err
	}
	v, err := fnote.NewVerifierForCosignatureV1(vkey)
	if err != nil {
		return invalid(n, "the witness's key is not a verifier key for cosignatures")
	}
	for _, m := range p.members {
		if m.key != nil && keyPart(m.vkey) == keyPart(vkey) {
			return invalid(n, "the key of %.60q is that of %.60q", name, m.name)
		}
	}
	m := member{name: name, key: v, vkey: vkey}
	if len(address) > 0 {
		u, err := url.Parse(address[0])
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return invalid(n, "%.100q is not an http or https address", address[0])
		}
		m.url = strings.TrimSuffix(u.String(), "/")
	}
	p.members = append(p.members, m)
	return nil
}

// keyPart returns the key alone, without name and algorithm: under two names it
// is one witness.
func keyPart(vkey string) string {
	parts := strings.SplitN(vkey, "+", 3) // name, hash and base64, which may hold a + too
	raw, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(raw) == 0 {
		return vkey
	}
	return string(raw[1:])
}

func (p *Policy) addGroup(n int, name, least string, of []string) error {
	if err := p.free(n, name); err != nil {
		return err
	}
	g := member{name: name}
	for _, m := range of {
		i := p.find(m)
		if i < 0 {
			return invalid(n, "%.60q is not known yet", m)
		}
		if slices.Contains(g.of, i) || slices.ContainsFunc(p.members, func(o member) bool { return slices.Contains(o.of, i) }) {
			return invalid(n, "%.60q is in a group already", m)
		}
		g.of = append(g.of, i)
	}
	switch k, ok := decimal(least); {
	case least == "any":
		g.least = 1
	case least == "all":
		g.least = len(g.of)
	case !ok || k < 1 || k > uint64(len(g.of)):
		return invalid(n, "%.20q of %d members cannot be", least, len(g.of))
	default:
		g.least = int(k)
	}
	p.members = append(p.members, g)
	return nil
}

func (p *Policy) find(name string) int {
	return slices.IndexFunc(p.members, func(m member) bool { return m.name == name })
}

func (p *Policy) free(n int, name string) error {
	if slices.Contains([]string{"log", "witness", "group", "quorum", "any", "all", "none"}, name) {
		return invalid(n, "%q is a word of the policy itself", name)
	}
	if _, err := strconv.ParseUint(name, 10, 64); err == nil || p.find(name) >= 0 {
		return invalid(n, "%.60q is a number or a name that is taken", name)
	}
	return nil
}

// Log returns the verifier of a log that the policy names, nil for others.
func (p *Policy) Log(origin string) note.Verifier {
	for _, v := range p.logs {
		if v.Name() == origin {
			return v
		}
	}
	return nil
}

// Unwitnessed says that the policy wants no cosignature: quorum none.
func (p *Policy) Unwitnessed() bool { return p.quorum == quorumNone }

// Peers returns the witnesses that have an address.
func (p *Policy) Peers() []Peer {
	var out []Peer
	for _, m := range p.members {
		if m.key != nil && m.url != "" {
			out = append(out, Peer{m.name, m.url, m.key})
		}
	}
	return out
}

// Witnessed is what a checkpoint proves under a policy.
type Witnessed struct {
	Origin string
	Size   uint64
	Root   []byte
	By     []string  // witnesses whose cosignatures verify
	At     time.Time // enough witnesses said so at this time or later; zero without a quorum to meet
	Enough bool      // the quorum is met
}

// Check verifies a checkpoint: its log must be one of the policy and must have
// signed it. That the quorum is not met is no error: see Enough.
func (p *Policy) Check(raw []byte) (Witnessed, error) {
	if len(raw) > maxRequest {
		return Witnessed{}, errMalformed
	}
	i := slices.IndexFunc(p.logs, func(v note.Verifier) bool { return v.Name() == origin(raw) })
	if i < 0 {
		return Witnessed{}, errUnknownLog
	}
	var keys []note.Verifier
	for _, m := range p.members {
		if m.key != nil {
			keys = append(keys, m.key)
		}
	}
	c, err := openCheckpoint(raw, p.logs[i], keys...)
	if err != nil {
		return Witnessed{}, err
	}
	w := Witnessed{Origin: c.Origin, Size: c.Size, Root: c.Hash}
	at := make([]time.Time, len(p.members)) // when a member was satisfied; zero: it is not
	for i, m := range p.members {
		if m.key == nil {
			at[i] = quorumTime(at, m)
			continue
		}
		for _, s := range c.sigs {
			if s.Name != m.key.Name() || s.Hash != m.key.KeyHash() {
				continue
			}
			if t, err := fnote.CoSigV1Timestamp(s); err == nil && t.Unix() > 0 {
				at[i], w.By = t, append(w.By, m.name)
			}
		}
	}
	switch p.quorum {
	case quorumNone:
		w.Enough = true
	case quorumUnset:
	default:
		w.At = at[p.quorum]
		w.Enough = !w.At.IsZero()
	}
	return w, nil
}

// quorumTime returns the time that as many members as the group needs vouched at
// or after; zero when too few did.
func quorumTime(at []time.Time, g member) time.Time {
	var times []time.Time
	for _, i := range g.of {
		if !at[i].IsZero() {
			times = append(times, at[i])
		}
	}
	if len(times) < g.least {
		return time.Time{}
	}
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	return times[g.least-1]
}
