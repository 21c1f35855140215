package sallyport

import (
	"strconv"
	"time"
)

// Grant lets one principal do one thing to one resource for a while. It becomes one
// policy that asks for the grant in the context of each request; no role, no team.
type Grant struct {
	ID          GrantID   `json:"id"`
	Request     RequestID `json:"request"`
	Holder      Party     `json:"holder"`
	Action      string    `json:"action"`
	Resource    string    `json:"resource"` // Type::"id"
	Project     ProjectID `json:"project,omitempty"`
	Environment string    `json:"environment,omitempty"`
	Once        bool      `json:"once,omitempty"`
	Emergency   bool      `json:"emergency,omitempty"`
	Hours       Windows   `json:"hours,omitempty"`
	StartsAt    time.Time `json:"starts_at"` // its activation
	EndsAt      time.Time `json:"ends_at"`
}

// GrantState is where a grant stands. It follows from what happened and the clock.
type GrantState string

const (
	GrantActive  GrantState = "active"
	GrantResting GrantState = "resting" // outside its hours
	GrantUsed    GrantState = "used"    // it was good once
	GrantExpired GrantState = "expired"
	GrantRevoked GrantState = "revoked"
)

// Lent is something that was handed out under a grant, which its end takes back.
type Lent struct {
	Kind   string `json:"kind"` // token, …
	ID     string `json:"id"`
	Taken  bool   `json:"taken,omitempty"`
	Missed int    `json:"missed,omitempty"` // attempts to take it back that failed
	Error  string `json:"error,omitempty"`  // of the last
}

// GrantStatus is a grant as it stands.
type GrantStatus struct {
	Grant Grant      `json:"grant"`
	State GrantState `json:"state"`
	Why   string     `json:"why,omitempty"` // it was revoked
	Uses  int        `json:"uses"`
	Lent  []Lent     `json:"lent,omitempty"`
	// Review is the request in which others look at what was done in an emergency.
	Review RequestID `json:"review,omitempty"`
}

// Fold tells where the grant stands from what happened to it, oldest first.
func (g Grant) Fold(events []AccessEvent, now time.Time) GrantStatus {
	s := GrantStatus{Grant: g, State: GrantActive}
	lent := map[string]*Lent{}
	var order []string
	revoked := false
	for _, e := range events {
		switch e.Kind {
		case EventUsed:
			s.Uses++
		case EventEnded:
			revoked, s.Why = true, e.Note
		case EventLent:
			lent[e.Key] = &Lent{Kind: e.Word, ID: e.Key}
			order = append(order, e.Key)
		case EventTaken:
			if l := lent[e.Key]; l != nil {
				l.Taken = true
			}
		case EventMissed:
			if l := lent[e.Word]; l != nil {
				l.Missed++
				l.Error = e.Note
			}
		}
	}
	for _, id := range order {
		s.Lent = append(s.Lent, *lent[id])
	}
	switch {
	case revoked:
		s.State = GrantRevoked
	case g.Once && s.Uses > 0:
		s.State = GrantUsed
	case !now.Before(g.EndsAt):
		s.State = GrantExpired
	case now.Before(g.StartsAt), !g.Hours.Cover(now): // a clock that went back gives no more time
		s.State = GrantResting
	}
	return s
}

// Over reports whether the grant lets nothing any more and never will.
func (s GrantState) Over() bool { return s == GrantUsed || s == GrantExpired || s == GrantRevoked }

// UseKey is the key of the n-th use, from 1: of one that is good once there is one.
func UseKey(n int) string { return strconv.Itoa(n) }
