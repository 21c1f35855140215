package sallyport

import (
	"context"
	"time"
)

// Account is a person, a bot or an agent that is known by itself, apart from the
// credentials it has. What it may do are the grants that stand here, each of
// which becomes one exact policy, and what the rules say of it.
type Account struct {
	ID   string        `json:"id"` // kind/name; never given twice, also not when it is removed
	Kind PrincipalKind `json:"kind"`
	Name string        `json:"name"`
	// Sponsor is the id of the person for whom an agent acts. An agent may do nothing
	// that its sponsor may not.
	Sponsor   string      `json:"sponsor,omitempty"`
	Teams     []string    `json:"teams,omitempty"`    // of a person; policies name them
	Admin     bool        `json:"admin,omitempty"`    // everything, on everything
	Projects  []ProjectID `json:"projects,omitempty"` // read, fetch, push, operate, deploy
	CreatedAt time.Time   `json:"created_at"`
	RemovedAt time.Time   `json:"removed_at,omitzero"` // it may do nothing any more
}

// AccessFile is the operator's policies as they were set.
type AccessFile struct {
	Digest Digest    `json:"digest"`
	Source string    `json:"source"`
	Actor  string    `json:"actor"`
	At     time.Time `json:"at"`
}

// AccessRules is who may do what: every policy in force.
type AccessRules struct {
	Digest Digest       `json:"digest"` // of all policies
	File   AccessFile   `json:"file"`   // the operator's part; its zero value before one was set
	Rules  []AccessRule `json:"rules"`  // built-in ones, those of the file, grants
}

// AccessRule is one policy.
type AccessRule struct {
	ID     string `json:"id"`
	Effect string `json:"effect"` // permit, forbid
	Text   string `json:"text"`   // Cedar
}

// Holder is a principal that may do something.
type Holder struct {
	Principal string `json:"principal"` // Type::"id"
	// Always is false when it may depend on the circumstances, such as the time.
	Always bool `json:"always"`
}

// Reach is one thing that one principal may do.
type Reach struct {
	Principal string `json:"principal"`
	Action    string `json:"action"`
	Resource  string `json:"resource"`
}

// AccessChange is what a change of rules or accounts lets and no longer lets.
type AccessChange struct {
	From   Digest  `json:"from"`
	To     Digest  `json:"to"`
	Gained []Reach `json:"gained,omitempty"`
	Lost   []Reach `json:"lost,omitempty"`
	More   int     `json:"more,omitempty"` // that did not fit into the lists
	// Asked is how many requests were decided for it: all about what is known.
	Asked int64 `json:"asked"`
}

// Rights tell and change who may do what. A change is refused when after it nobody
// could make another.
type Rights interface {
	// Accounts returns those that were not removed, by id.
	Accounts(ctx context.Context) ([]Account, error)
	// AddAccount makes one; its ID and CreatedAt are set.
	AddAccount(ctx context.Context, a Account) (Account, error)
	// RemoveAccount also ends its tokens and sessions.
	RemoveAccount(ctx context.Context, id string) error
	// LinkLogin says whom of the provider's people an account is of, by the subject that
	// the provider's tokens name; "" for nobody. It ends the account's sessions.
	LinkLogin(ctx context.Context, id, subject string) error
	AccessRules(ctx context.Context) (AccessRules, error)
	// WhoCan returns all who may do the action to the resource, written
	// Type::"id", in some circumstance. It leaves nobody out and may say too much.
	WhoCan(ctx context.Context, action, resource string) ([]Holder, error)
	// CompareRules tells what the operator's policies would change, and changes nothing.
	CompareRules(ctx context.Context, source string) (AccessChange, error)
	// SetRules puts the operator's policies in force in place of those before.
	SetRules(ctx context.Context, source string) (AccessChange, error)
}

type AccountTx interface {
	Insert(Account) error // CodeConflict when the id was ever given
	Get(id string) (Account, error)
	Remove(id string, at time.Time) error // CodeNotFound also when it is removed
	SetTeams(id string, teams []string) error
	List() ([]Account, error) // by id, removed ones too
}

type AccessFileTx interface {
	// Put makes the file the current one; those before are kept.
	Put(AccessFile) error
	// Current answers CodeNotFound before one was put.
	Current() (AccessFile, error)
}
