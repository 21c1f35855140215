package rights

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/sallyport-ci/sallyport"
)

// Request is one question: may the principal do it to the resource?
type Request struct {
	Principal UID
	Action    UID
	Resource  UID
	At        time.Time
	Grant     string // the just-in-time grant that it comes with, "" for none
	// Near are entities about the request that the world does not keep.
	Near []Entity
}

// Decision is the answer, with all that is needed to decide again.
type Decision struct {
	Allowed     bool
	Determining []string // ids of the policies that decided, sorted; none: no permit fits
	Errors      []string // of policies that could not be evaluated; they deny
	// Sponsor is, for an agent, what was decided of its sponsor.
	Sponsor *Decision

	Request  Request
	Policies sallyport.Digest
	Entities sallyport.Digest
}

// Decide answers. It is total: what it cannot answer is denied, with the reason in Errors.
func (s *Set) Decide(w *World, r Request) Decision {
	d := s.decide(w, r)
	if !d.Allowed || r.Principal.Type != TypeAgent {
		return d
	}
	e, _ := near{w, r.Near}.Get(r.Principal)
	sponsor, ok := sponsorOf(e)
	if !ok || sponsor.Type != TypePerson {
		d.Allowed, d.Errors = false, append(d.Errors, "the agent has no sponsor")
		return d
	}
	r.Principal = sponsor
	of := s.decide(w, r)
	d.Sponsor, d.Allowed = &of, of.Allowed
	return d
}

func (s *Set) decide(w *World, r Request) Decision {
	d := Decision{Request: r, Policies: s.digest, Entities: w.digest}
	if t, ok := s.requests[string(r.Action.ID)]; !ok || r.Action.Type != "Action" ||
		!slices.Contains(t.principals, string(r.Principal.Type)) || !slices.Contains(t.resources, string(r.Resource.Type)) {
		d.Errors = []string{fmt.Sprintf("the schema knows no request of %s to %s %s", r.Principal.Type, r.Action, r.Resource.Type)}
		return d
	}
	entities := near{w, r.Near}
	if _, known := entities.Get(r.Principal); !known {
		d.Errors = []string{"the principal is unknown"}
		return d
	}
	decision, diagnostic := cedar.Authorize(slice{s, r, entities.up(r.Principal), entities.up(r.Resource)}, entities, cedar.Request{
		Principal: r.Principal, Action: r.Action, Resource: r.Resource, Context: asked(r.At, r.Grant),
	})
	d.Allowed = decision == cedar.Allow && len(diagnostic.Errors) == 0
	for _, reason := range diagnostic.Reasons {
		d.Determining = append(d.Determining, string(reason.PolicyID))
	}
	for _, e := range diagnostic.Errors {
		d.Errors = append(d.Errors, fmt.Sprintf("policy %s: %s", e.PolicyID, e.Message))
	}
	slices.Sort(d.Determining)
	slices.Sort(d.Errors)
	return d
}

// asked is the context of a request.
func asked(at time.Time, grant string) types.Record {
	m := types.RecordMap{"at": types.NewDatetime(at)}
	if grant != "" {
		m["grant"] = types.String(grant)
	}
	return types.NewRecord(m)
}

// slice is the part of a set that can matter to a request: what is left out has a
// head that cannot match. Every permit names a principal, for the lint sees to it,
// and is found by that; forbids are all looked at.
type slice struct {
	set       *Set
	r         Request
	who, what []UID // what the principal and the resource are in
}

func (s slice) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, r := range s.set.forbids {
			if r.names(s.r.Action) && fits(r.principal, s.r.Principal, s.who) && fits(r.resource, s.r.Resource, s.what) && !yield(r.id, r.policy) {
				return
			}
		}
		if !s.permits(s.r.Principal, yield) {
			return
		}
		for _, u := range s.who {
			if !s.permits(u, yield) {
				return
			}
		}
	}
}

// permits yields the permits that name who, until it is told to stop.
func (s slice) permits(who UID, yield func(cedar.PolicyID, *cedar.Policy) bool) bool {
	for _, r := range s.set.permits[who] {
		if fits(r.resource, s.r.Resource, s.what) && r.names(s.r.Action) && !yield(r.id, r.policy) {
			return false
		}
	}
	return true
}

// Why says in a few words what decided.
func (d Decision) Why() string {
	switch {
	case len(d.Errors) > 0:
		return d.Errors[0]
	case d.Sponsor != nil && !d.Sponsor.Allowed:
		return "its sponsor may not: " + d.Sponsor.Why()
	case len(d.Determining) > 0:
		return "policy " + d.Determining[0]
	}
	return "no policy permits it"
}

// record is a Decision as it is kept.
type record struct {
	Allowed     bool             `json:"allowed"`
	Principal   string           `json:"principal"`
	Action      string           `json:"action"`
	Resource    string           `json:"resource"`
	Context     map[string]any   `json:"context"`
	Determining []string         `json:"determining,omitempty"`
	Errors      []string         `json:"errors,omitempty"`
	Sponsor     *record          `json:"sponsor,omitempty"`
	Near        []Entity         `json:"near,omitempty"`
	Policies    sallyport.Digest `json:"policies"`
	Entities    sallyport.Digest `json:"entities"`
	Engine      string           `json:"engine"`
}

func (d Decision) record() *record {
	r := &record{Allowed: d.Allowed, Principal: d.Request.Principal.String(), Action: string(d.Request.Action.ID), Resource: d.Request.Resource.String(),
		Context: map[string]any{"at": d.Request.At.UTC().Format(time.RFC3339Nano)}, Determining: d.Determining, Errors: d.Errors, Near: d.Request.Near,
		Policies: d.Policies, Entities: d.Entities, Engine: EngineVersion}
	if d.Request.Grant != "" {
		r.Context["grant"] = d.Request.Grant
	}
	if d.Sponsor != nil {
		r.Sponsor = d.Sponsor.record()
	}
	return r
}

// MarshalJSON writes the decision record: digests of policies and entities, the
// request with its context, the decision, what determined it, errors and the engine's version.
func (d Decision) MarshalJSON() ([]byte, error) { return json.Marshal(d.record()) }
