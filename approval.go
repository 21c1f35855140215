package sallyport

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// RequestKind says what a request asks for.
type RequestKind string

const (
	RequestJob     RequestKind = "job"     // a job wants to enter an environment
	RequestRelease RequestKind = "release" // a release wants to, and its gate asks
	RequestAccess  RequestKind = "access"  // somebody wants to do something for a while
	RequestReview  RequestKind = "review"  // somebody did it alone, in an emergency: others look at it afterwards
)

// RequestState is where a request stands. Nobody sets it: it follows from what
// happened and from the clock.
type RequestState string

const (
	RequestPending   RequestState = "pending"   // people may vote
	RequestApproved  RequestState = "approved"  // enough said yes; what it waits for besides is the clock, or who asked
	RequestDone      RequestState = "done"      // it was let through
	RequestRejected  RequestState = "rejected"  // one said no
	RequestVoid      RequestState = "void"      // what it asks about is not what it was any more
	RequestExpired   RequestState = "expired"   // not enough people said yes in time
	RequestWithdrawn RequestState = "withdrawn" // nobody wants it any more
)

// Open reports whether something may still come of the request.
func (s RequestState) Open() bool { return s == RequestPending || s == RequestApproved }

// Party is somebody in a request or a grant.
type Party struct {
	Kind PrincipalKind `json:"kind"`
	ID   string        `json:"id"`
	Name string        `json:"name"`
}

func (p Party) String() string { return Principal{Kind: p.Kind, Name: p.Name}.String() }

// PartyOf returns who a principal is, without what limits its credential.
func PartyOf(p Principal) Party { return Party{p.Kind, p.ID, p.Name} }

// Involved is somebody who may not vote, and why.
type Involved struct {
	// ID is the id of an account. Author is text of a commit instead: a name or an
	// address, which nobody has checked.
	ID     string `json:"id,omitempty"`
	Author string `json:"author,omitempty"`
	How    string `json:"how"`
}

// Bound is what a request is about to the byte. Approvals are void when any of it changes.
type Bound struct {
	Base     string `json:"base,omitempty"` // the commit that is there now, "" for none
	Commit   string `json:"commit,omitempty"`
	Plan     Digest `json:"plan,omitempty"`
	Artifact Digest `json:"artifact,omitempty"`
	Evidence Digest `json:"evidence,omitempty"`
	Policy   Digest `json:"policy,omitempty"` // of the rules that ask, or of the operator's policies
}

// Differs names what is not the same in other; "" when all is.
func (b Bound) Differs(other Bound) string {
	switch {
	case b.Commit != other.Commit:
		return "the commit"
	case b.Plan != other.Plan:
		return "the plan"
	case b.Artifact != other.Artifact:
		return "the artifact"
	case b.Evidence != other.Evidence:
		return "the evidence"
	case b.Policy != other.Policy:
		return "the policy"
	case b.Base != other.Base:
		return "what is deployed now"
	}
	return ""
}

// AccessRequest asks people for a yes. It does not change.
type AccessRequest struct {
	ID          RequestID   `json:"id"`
	Kind        RequestKind `json:"kind"`
	Project     ProjectID   `json:"project,omitempty"` // "": the installation
	Environment string      `json:"environment,omitempty"`
	// Subject is what waits: "run/ID/ENVIRONMENT" for all jobs of a run that name it,
	// "deployment/ID"; of a review what it is about, "grant/ID".
	Subject string `json:"subject,omitempty"`
	Run     RunID  `json:"run,omitempty"`
	By      Party  `json:"by"`
	Why     string `json:"why,omitempty"`
	Bound   Bound  `json:"bound"`

	// Of a request of access: what, on what, for how long from its activation.
	Action    string        `json:"action,omitempty"`
	Resource  string        `json:"resource,omitempty"` // Type::"id"
	For       time.Duration `json:"for,omitempty"`
	Once      bool          `json:"once,omitempty"`
	Emergency bool          `json:"emergency,omitempty"`

	// Needed is how many distinct people must say yes; 0 when it waits for the clock alone.
	Needed    int        `json:"needed"`
	Reviewers []string   `json:"reviewers,omitempty"` // person/NAME, team/NAME; none: all whom policies let approve
	Involved  []Involved `json:"involved,omitempty"`
	Hours     Windows    `json:"hours,omitempty"`
	NotBefore time.Time  `json:"not_before,omitzero"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at"`
}

// Digest is of all that the request says: what a vote is for, and the challenge of
// whoever signs one.
func (r AccessRequest) Digest() Digest {
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("encode request: %v", err)) // of plain fields
	}
	return DigestOf(append([]byte("sallyport request v1\n"), b...))
}

// Objection says why somebody may not vote on the request, "" when they may as far as
// the request goes. There is no exception for administrators. Teams are those of the
// person, born is when their account was made.
func (r AccessRequest) Objection(who Party, teams []string, born time.Time) string {
	switch {
	case who.Kind != Person:
		return "only people approve"
	case who.ID == "":
		return "whoever approves has an account"
	case who.ID == r.By.ID:
		return "whoever asks does not approve"
	case born.After(r.CreatedAt):
		return "the account is younger than the request"
	}
	for _, in := range r.Involved {
		if in.ID == who.ID || in.Author != "" && sameName(in.Author, who.Name) {
			return in.How
		}
	}
	if len(r.Reviewers) == 0 || slices.Contains(r.Reviewers, who.ID) {
		return ""
	}
	if slices.ContainsFunc(teams, func(t string) bool { return slices.Contains(r.Reviewers, "team/"+t) }) {
		return ""
	}
	return "not among the reviewers: " + strings.Join(r.Reviewers, ", ")
}

// sameName reports whether text of a commit may mean the person: their name, or an
// address that begins with it. It says yes too often rather than too seldom.
func sameName(author, name string) bool {
	local, _, _ := strings.Cut(author, "@")
	local, _, _ = strings.Cut(local, "+")
	return strings.EqualFold(strings.TrimSpace(author), name) || strings.EqualFold(strings.TrimSpace(local), name)
}

// EventKind says what happened to a request, a grant or a stop.
type EventKind string

const (
	EventVote   EventKind = "vote"   // of a request; Key is the person's id, Word approve or reject
	EventEnded  EventKind = "ended"  // of a request, Word its state; of a grant, Note why; of a stop
	EventUsed   EventKind = "used"   // of a grant; Key counts, for one that is good once it is "1"
	EventLent   EventKind = "lent"   // of a grant: something was handed out under it; Key names it, Word its kind
	EventTaken  EventKind = "taken"  // it was taken back
	EventMissed EventKind = "missed" // taking it back failed; Key is "ID/n"
	EventClosed EventKind = "closed" // of a grant: nothing handed out under it is left
)

// Words of a vote.
const (
	WordApprove = "approve"
	WordReject  = "reject"
)

// AccessEvent is one thing that happened. Events are added and never changed; of one
// subject and kind each key stands once, which makes a person count once.
type AccessEvent struct {
	Subject string    `json:"subject"` // "request/ID", "grant/ID", "stop/ID"
	Kind    EventKind `json:"kind"`
	Key     string    `json:"key,omitempty"`
	Word    string    `json:"word,omitempty"`
	Note    string    `json:"note,omitempty"` // what a person or the engine said of it
	By      Party     `json:"by"`
	Digest  Digest    `json:"digest,omitempty"` // of a vote: of the request that was voted on
	// Assertion is the person's signature over Digest, of a vote that has one (WebAuthn, JSON).
	Assertion []byte    `json:"assertion,omitempty"`
	At        time.Time `json:"at"`
}

// RequestStatus is a request as it stands.
type RequestStatus struct {
	Request AccessRequest `json:"request"`
	Digest  Digest        `json:"digest"`
	State   RequestState  `json:"state"`
	Why     string        `json:"why,omitempty"` // it ended so
	Votes   []AccessEvent `json:"votes,omitempty"`
	Grant   GrantID       `json:"grant,omitempty"` // that came of it

	// For who looks at one: whether they may vote, else why not, and who may.
	Objection string         `json:"objection,omitempty"`
	MayVote   []string       `json:"may_vote,omitempty"`
	Effect    *RequestEffect `json:"effect,omitempty"`
}

// Approvals counts those who said yes.
func (s RequestStatus) Approvals() int {
	n := 0
	for _, v := range s.Votes {
		if v.Word == WordApprove {
			n++
		}
	}
	return n
}

// RequestEffect is what a yes would do.
type RequestEffect struct {
	// Of a job or a release: the commits that would be new there.
	From    string   `json:"from,omitempty"`
	To      string   `json:"to,omitempty"`
	Subject string   `json:"subject,omitempty"` // of the newest commit; untrusted text
	Authors []string `json:"authors,omitempty"` // untrusted text
	Changed []string `json:"changed,omitempty"` // paths
	More    bool     `json:"more,omitempty"`    // that are not listed
	// What the gate says of the evidence.
	Verdict  VerdictID `json:"verdict,omitempty"`
	Decision Decision  `json:"decision,omitempty"`
	Reasons  []string  `json:"reasons,omitempty"`
	// Of a request of access: what it newly lets.
	Access *AccessChange `json:"access,omitempty"`
}

// Fold tells where the request stands from what happened to it, oldest first.
func (r AccessRequest) Fold(events []AccessEvent, now time.Time) RequestStatus {
	s := RequestStatus{Request: r, Digest: r.Digest(), State: RequestPending}
	said := map[string]bool{}
	yes := 0
	for _, e := range events {
		switch e.Kind {
		case EventVote:
			// A vote for something else, by somebody twice or too late is none.
			if e.Digest != s.Digest || said[e.By.ID] || !e.At.Before(r.ExpiresAt) && r.Kind != RequestReview {
				continue
			}
			said[e.By.ID] = true
			s.Votes = append(s.Votes, e)
			if e.Word == WordApprove {
				yes++
			} else if s.State == RequestPending || s.State == RequestApproved {
				s.State, s.Why = RequestRejected, e.By.String()+" said no: "+e.Note
			}
		case EventEnded:
			s.State, s.Why = RequestState(e.Word), e.Note
			if id, ok := strings.CutPrefix(e.Key, "grant/"); ok {
				s.Grant = GrantID(id)
			}
			return s
		}
	}
	if s.State != RequestPending {
		return s
	}
	// What is approved does not expire, but for what somebody has to take up.
	enough := yes >= r.Needed
	late := !now.Before(r.ExpiresAt) && r.Kind != RequestReview // that is asked for until it is had
	switch {
	case enough && !(late && r.Kind == RequestAccess):
		s.State = RequestApproved
	case late:
		s.State, s.Why = RequestExpired, "nobody decided in time"
		if enough {
			s.Why = "it was approved and not taken up in time"
		}
	}
	return s
}

// Opens is when what was approved may go on: after its timer, in its hours. The zero
// time when its hours never come.
func (r AccessRequest) Opens(now time.Time) time.Time {
	if now.Before(r.NotBefore) {
		now = r.NotBefore
	}
	return r.Hours.Next(now)
}

// AccessAsk is what somebody asks for: to do an action to a resource for a while.
type AccessAsk struct {
	Action   string        `json:"action"`
	Resource string        `json:"resource"` // Type::"id"
	For      time.Duration `json:"for"`      // from its activation
	Why      string        `json:"why"`
	Once     bool          `json:"once,omitempty"`
	// Hours limit the grant further.
	Hours Windows `json:"hours,omitempty"`
	// Emergency wants it now, without a yes: others must look at it within a day, and
	// nobody misses that it happened.
	Emergency bool `json:"emergency,omitempty"`
}

// Vote is what a person says to a request.
type Vote struct {
	Word string `json:"word"` // approve or reject
	Note string `json:"note,omitempty"`
	// Digest is that of the request that the person has seen.
	Digest Digest `json:"digest"`
	// Assertion is the person's signature over Digest, where they have a key (WebAuthn, JSON).
	Assertion []byte `json:"assertion,omitempty"`
}

// Approvals ask people for a yes, keep what they said, and let through what they let.
type Approvals interface {
	// Ask asks for access. In an emergency the answer has a grant that is active.
	Ask(ctx context.Context, a AccessAsk) (RequestStatus, error)
	// Requests returns those that who asks may see, newest first; open leaves out those of
	// which nothing comes any more.
	Requests(ctx context.Context, p ProjectID, open bool, page Page) ([]RequestStatus, error)
	// Request returns one with its effect and who may vote.
	Request(ctx context.Context, id RequestID) (RequestStatus, error)
	// Vote is of a person, once for each request.
	Vote(ctx context.Context, id RequestID, v Vote) (RequestStatus, error)
	// Withdraw ends a request that nobody wants any more. It is for who asked.
	Withdraw(ctx context.Context, id RequestID) error
	// Activate begins the time of what was approved. It is for who asked.
	Activate(ctx context.Context, id RequestID) (GrantStatus, error)
	// Grants returns those that who asks may see, newest first.
	Grants(ctx context.Context, page Page) ([]GrantStatus, error)
	// Revoke ends a grant. Its holder may, and whoever administers.
	Revoke(ctx context.Context, id GrantID, why string) error
}
