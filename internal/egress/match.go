package egress

import (
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// Reasons of what a Matcher does not allow; records hold them.
const (
	ReasonLevel  = "no-network"         // the level is none, or the rules cannot be read
	ReasonHost   = "host-not-allowed"   // no rule names it for this job
	ReasonPort   = "port-not-allowed"   // a rule names the host, at other ports
	ReasonMethod = "method-not-allowed" // a rule allows other methods
	ReasonPath   = "path-not-allowed"   // a rule allows other paths, or the path has more than one reading
)

// Answer is what rules say of a connection or a request.
type Answer struct {
	// Decision is EgressAllowed, EgressDenied, or EgressObserved: no rule allows it, and it
	// may go on.
	Decision sallyport.EgressDecision
	Reason   string // unless allowed
	Rule     string // FILE:LINE of what allows it
	// Intercept: the door must read what is sent, because a rule has methods or paths or a
	// credential is lent there. Request is to be asked for each request then.
	Intercept bool
}

// Matcher answers for one job what its rules let through. It is immutable and
// may be used by several goroutines. Hosts handed to it are compared as they
// are: in lower case, without a last dot (Canonical makes them so).
//
// Of several rules the most generous one counts. A credential opens the door
// for what it may be used for; the caller leaves those out that are not lent to the job.
// The hosts of package registries are not the Matcher's: at the level
// registries, the firewall answers for them before it is asked.
type Matcher struct {
	level   sallyport.EgressLevel
	observe bool
	rules   []entry
}

// entry is a rule or a credential.
type entry struct {
	host  string
	ports []int
	asks  Asks
	where string
	lends bool
}

// NewMatcher makes the matcher of the job with that key. It keeps nothing of rules
// that a caller may change later.
func NewMatcher(rules sallyport.EgressRules, job string) *Matcher {
	m := &Matcher{level: rules.Level, observe: rules.Observe}
	if rules.Broken != "" {
		m.level, m.observe = sallyport.EgressNone, false
	}
	for _, r := range rules.Rules {
		if len(r.Jobs) == 0 || slices.Contains(r.Jobs, job) {
			m.rules = append(m.rules, entry{host: r.Host, ports: slices.Clone(rulePorts(r)), where: Rule(r.Pos),
				asks: Asks{Methods: slices.Clone(r.Methods), Paths: slices.Clone(r.Paths)}})
		}
	}
	for _, c := range rules.Credentials {
		if len(c.Jobs) == 0 || slices.Contains(c.Jobs, job) {
			m.rules = append(m.rules, entry{host: c.Host, ports: []int{CredentialPort(c)}, where: Rule(c.Pos), lends: true,
				asks: Asks{Methods: slices.Clone(CredentialAsks(c).Methods), Paths: slices.Clone(c.Paths)}})
		}
	}
	return m
}

// Canonical is a host as rules write it.
func Canonical(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

func (m *Matcher) open() bool {
	return m.level == sallyport.EgressListed || m.level == sallyport.EgressRegistries
}

// Name answers for a question for a name: whether the job may reach the host at any port.
func (m *Matcher) Name(host string) Answer {
	if !m.open() {
		return Answer{Decision: sallyport.EgressDenied, Reason: ReasonLevel}
	}
	if i := slices.IndexFunc(m.rules, func(e entry) bool { return below(e.host, host) }); i >= 0 {
		return Answer{Decision: sallyport.EgressAllowed, Rule: m.rules[i].where}
	}
	return m.refuse(ReasonHost, false)
}

// Connect answers for a connection. With Intercept the rule is the first that might allow
// what is asked in it.
func (m *Matcher) Connect(host string, port int) Answer {
	return m.answer(host, port, nil)
}

// Request answers for one HTTP request in an intercepted connection. The path is as it stood
// in the request line, without its query.
func (m *Matcher) Request(host string, port int, method, escapedPath string) Answer {
	return m.answer(host, port, func(a Asks) (string, bool) { return a.Allow(method, escapedPath) })
}

func (m *Matcher) answer(host string, port int, request func(Asks) (fault string, ok bool)) Answer {
	if !m.open() {
		return Answer{Decision: sallyport.EgressDenied, Reason: ReasonLevel}
	}
	reason := ReasonHost
	var found *entry
	narrow, lends := true, false
	for i := range m.rules {
		e := &m.rules[i]
		if !below(e.host, host) {
			continue
		}
		if !slices.Contains(e.ports, port) {
			if reason == ReasonHost {
				reason = ReasonPort
			}
			continue
		}
		free := !e.lends && len(e.asks.Methods) == 0 && len(e.asks.Paths) == 0
		narrow, lends = narrow && !free, lends || e.lends
		if request != nil {
			fault, ok := request(e.asks)
			if !ok {
				switch { // the closest miss is the one to tell
				case fault == "path":
					reason = ReasonPath
				case reason != ReasonPath:
					reason = ReasonMethod
				}
				continue
			}
		}
		if found == nil || free && found.narrow() {
			found = e
		}
	}
	intercept := lends || narrow && reason != ReasonHost && reason != ReasonPort
	if found != nil {
		return Answer{Decision: sallyport.EgressAllowed, Rule: found.where, Intercept: lends || narrow}
	}
	return m.refuse(reason, intercept)
}

func (e *entry) narrow() bool { return e.lends || len(e.asks.Methods) > 0 || len(e.asks.Paths) > 0 }

// refuse is what becomes of something that no rule allows.
func (m *Matcher) refuse(reason string, intercept bool) Answer {
	a := Answer{Decision: sallyport.EgressDenied, Reason: reason, Intercept: intercept}
	if m.observe {
		a.Decision = sallyport.EgressObserved
	}
	return a
}
