package sallyport

import (
	"context"
	"time"
)

// PrincipalKind says what a principal is.
type PrincipalKind string

const (
	Nobody PrincipalKind = ""       // not authenticated; may do nothing
	Person PrincipalKind = "person" // a human being
	Bot    PrincipalKind = "bot"    // a program with tokens of its own
	Agent  PrincipalKind = "agent"  // a program that acts for a person
	Runner PrincipalKind = "runner" // an enrolled runner
	System PrincipalKind = "system" // a stage of the river
)

// Principal is who asks. It is put into the context by the face that
// authenticated the request and judged by the engine alone.
type Principal struct {
	Kind PrincipalKind `json:"kind"`
	ID   string        `json:"id"`   // stable; never reused
	Name string        `json:"name"` // for people to read

	// What follows limits the credential; what the principal may do is for its account
	// and the rules to say. Without an account, it is what its credentials say together.
	Projects []ProjectID `json:"projects,omitempty"` // those it may touch; an administrator may touch all
	Admin    bool        `json:"admin,omitempty"`
	Actions  []string    `json:"actions,omitempty"` // those it may do; none: all
	Whole    bool        `json:"whole,omitempty"`   // everything that its account may

	// ProvedAt is when the person of a session proved to a provider who they are, strongly
	// enough for what is sensitive. No other credential has it.
	ProvedAt time.Time `json:"proved_at,omitzero"`
}

// String returns "kind:name".
func (p Principal) String() string {
	if p.Kind == Nobody {
		return "nobody"
	}
	return string(p.Kind) + ":" + p.Name
}

type principalKey struct{}

// WithPrincipal returns a context in which p asks.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom returns who asks; the zero Principal is nobody.
func PrincipalFrom(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// Tier is how far the origin of a thing is trusted. It travels with pushes,
// runs, artifacts, caches, secrets and tokens; nothing flows from a lower tier
// into a use that demands a higher one.
type Tier string

const (
	TierUntrusted Tier = "untrusted" // a fork, an outsider
	TierMember    Tier = "member"    // a branch pushed by a member
	TierProtected Tier = "protected" // a protected ref
	TierRelease   Tier = "release"   // an approved environment
)

// Rank orders tiers from 0; an unknown tier ranks lowest.
func (t Tier) Rank() int {
	switch t {
	case TierMember:
		return 1
	case TierProtected:
		return 2
	case TierRelease:
		return 3
	default:
		return 0
	}
}

// Covers reports whether t may feed a use that demands tier need.
func (t Tier) Covers(need Tier) bool { return t.Rank() >= need.Rank() }
