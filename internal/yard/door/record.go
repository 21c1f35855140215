package door

import (
	"cmp"
	"slices"
	"sync"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Reasons of refusals, beside those of the Rules.
const (
	ReasonNoName   = "address-without-name"  // the address was not given for a name by this door
	ReasonProtocol = "protocol-not-allowed"  // neither TCP nor a question for a name
	ReasonType     = "question-not-answered" // a type of record that no name has here
	ReasonQuestion = "malformed-question"
	ReasonNotTLS   = "not-tls"         // port 443 without TLS
	ReasonNotHTTP  = "not-http"        // port 80, or a host whose requests are read, without HTTP
	ReasonHello    = "malformed-hello" // of TLS: malformed, too long, or split beyond reason
	ReasonNoSNI    = "sni-missing"
	ReasonSNI      = "sni-mismatch"  // the name in TLS is not the one that was asked for
	ReasonECH      = "ech"           // the name in TLS is hidden
	ReasonTrust    = "tls-handshake" // the client did not take the door's certificate
	ReasonHostName = "host-mismatch" // the Host of a request is not the one that was asked for
	ReasonMethod   = "method-not-allowed"
	ReasonPrivate  = "private-address" // the name stands for an address that jobs may not reach
	ReasonSlow     = "too-slow"        // it did not say in time what it is
	ReasonFlows    = "too-many-flows"
	ReasonRequests = "too-many-requests" // at a time
	ReasonBytes    = "too-many-bytes"
	ReasonAsked    = "too-many-questions"
	ReasonNames    = "too-many-names"
)

// kind is what makes two flows the same.
type kind struct {
	step                    int
	protocol, host, address string
	port                    int
	decision                sallyport.EgressDecision
	reason, rule            string
}

// record counts flows of the same kind together and keeps so many kinds.
type record struct {
	notice func(sallyport.Flow)
	clock  func() time.Time

	mu    sync.Mutex
	kinds map[kind]*sallyport.Flow // since the last take
	told  map[kind]bool            // of all time, without their step; at most as many as are kept
	lost  int
}

// add counts a flow, whose Count, First and Last are set here.
func (r *record) add(f sallyport.Flow, most int) {
	now := r.clock().UTC()
	k := kind{f.Step, f.Protocol, f.Host, f.Address, f.Port, f.Decision, f.Reason, f.Rule}
	r.mu.Lock()
	if r.kinds == nil {
		r.kinds = make(map[kind]*sallyport.Flow)
	}
	if r.told == nil {
		r.told = make(map[kind]bool)
	}
	known := r.kinds[k]
	switch {
	case known != nil:
		known.Count++
		known.Sent += f.Sent
		known.Received += f.Received
		known.Last = now
	case len(r.kinds) >= most:
		r.lost++
	default:
		f.Count, f.First, f.Last = 1, now, now
		r.kinds[k] = &f
	}
	k.step = 0
	tell := f.Decision != sallyport.EgressAllowed && r.notice != nil && !r.told[k] && len(r.told) < most
	if tell {
		r.told[k] = true
	}
	r.mu.Unlock()
	if tell {
		r.notice(f)
	}
}

// take returns what was recorded since it was last called, in the order in which it began.
func (r *record) take() ([]sallyport.Flow, int) {
	r.mu.Lock()
	flows := make([]sallyport.Flow, 0, len(r.kinds))
	for _, f := range r.kinds {
		flows = append(flows, *f)
	}
	lost := r.lost
	r.kinds, r.lost = nil, 0
	r.mu.Unlock()
	slices.SortFunc(flows, func(a, b sallyport.Flow) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Step, b.Step), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Reason, b.Reason))
	})
	return flows, lost
}

// note records a flow in the step that runs now.
func (d *Door) note(f sallyport.Flow) {
	f.Step = d.cfg.Step()
	d.record.add(f, d.cfg.Limits.Records)
}

// refused records a refusal.
func (d *Door) refused(protocol, host, address string, port int, reason string) {
	d.note(sallyport.Flow{Protocol: protocol, Host: host, Address: address, Port: port, Decision: sallyport.EgressDenied, Reason: reason})
}
