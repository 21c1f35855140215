package sallyport

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Times of ID tokens and the keys that sign them.
const (
	IDTokenLife = 5 * time.Minute // a token is exchanged at once
	IDTokenSkew = time.Minute     // how far behind ours the clock of who checks may be
	// IssuerCache is how long those who check tokens may go on with the keys that they
	// have fetched, at most: what is taken for granted of them.
	IssuerCache = time.Hour
	// IssuerLead is how long a new key is published before it signs: a day, so that a
	// copy of the keys that is published elsewhere once a day has it.
	IssuerLead = 24 * time.Hour
	// IssuerPeriod is how long a key signs.
	IssuerPeriod = 90 * 24 * time.Hour
)

// IssuerKey is a key of the issuer of ID tokens. It is published from MadeAt, signs from
// SignsFrom until the next of its algorithm does, and is unpublished and destroyed at GoneAt.
type IssuerKey struct {
	ID        KeyID     `json:"-"`
	Kid       string    `json:"kid"` // its thumbprint (RFC 7638), as tokens name it
	Algorithm string    `json:"algorithm"`
	MadeAt    time.Time `json:"made_at"`
	SignsFrom time.Time `json:"signs_from"`
	GoneAt    time.Time `json:"gone_at,omitzero"` // zero until there is a next one
}

// IssuerKeys are all keys of the issuer, oldest first.
type IssuerKeys []IssuerKey

// IssuerAlgorithms lists the algorithms of which there are keys.
func IssuerAlgorithms() []string { return []string{RS256, ES256} }

// Published returns those that tokens may verify with.
func (l IssuerKeys) Published(now time.Time) IssuerKeys {
	return slices.DeleteFunc(slices.Clone(l), func(k IssuerKey) bool { return !k.GoneAt.IsZero() && !now.Before(k.GoneAt) })
}

// Signing returns the key that signs now: of those whose time has come the newest. Should
// the clock have been set back before all of them, it is the oldest, which others know.
func (l IssuerKeys) Signing(algorithm string, now time.Time) (IssuerKey, bool) {
	var found IssuerKey
	for _, k := range l.Published(now) {
		if k.Algorithm == algorithm && (found.Kid == "" || !k.SignsFrom.After(now) && k.SignsFrom.After(found.SignsFrom)) {
			found = k
		}
	}
	return found, found.Kid != ""
}

// Pending returns the key that will sign and does not yet.
func (l IssuerKeys) Pending(algorithm string, now time.Time) (IssuerKey, bool) {
	for _, k := range l.Published(now) {
		if k.Algorithm == algorithm && k.SignsFrom.After(now) {
			return k, true
		}
	}
	return IssuerKey{}, false
}

// Due is when the next key of the algorithm is to be made; the zero time is at once.
func (l IssuerKeys) Due(algorithm string) time.Time {
	var last time.Time
	for _, k := range l {
		// One that was burnt has no successor to wait for.
		if k.Algorithm == algorithm && k.SignsFrom.After(last) {
			last = k.SignsFrom
		}
	}
	if last.IsZero() {
		return last
	}
	return last.Add(IssuerPeriod - IssuerLead)
}

// Succeed has a new key follow those of its algorithm, which is published for lead before it
// signs; the first signs at once. It returns the new key and those before it that changed:
// they stay published for as long as a token that they signed may live, and somebody
// may have the keys of before. With burn set they are gone at once, and the new one signs.
func (l IssuerKeys) Succeed(k IssuerKey, now time.Time, lead time.Duration, burn bool) (next IssuerKey, changed IssuerKeys) {
	k.MadeAt, k.SignsFrom = now, now.Add(lead)
	if _, signing := l.Signing(k.Algorithm, now); burn || !signing {
		k.SignsFrom = now
	}
	for _, old := range l.Published(now) {
		gone := k.SignsFrom.Add(IDTokenLife + IDTokenSkew + IssuerCache)
		if burn {
			gone = now
		}
		if old.Algorithm == k.Algorithm && (old.GoneAt.IsZero() || gone.Before(old.GoneAt)) {
			old.GoneAt = gone
			changed = append(changed, old)
		}
	}
	return k, changed
}

// State says in a word what a key of the list does now.
func (l IssuerKeys) State(k IssuerKey, now time.Time) string {
	if s, ok := l.Signing(k.Algorithm, now); ok && s.Kid == k.Kid {
		return "signs"
	}
	if k.SignsFrom.After(now) {
		return "waits"
	}
	return "verifies"
}

// IssuerStatus tells about the issuer of ID tokens.
type IssuerStatus struct {
	Issuer string     `json:"issuer"`
	Keys   IssuerKeys `json:"keys"` // that are published
	Next   time.Time  `json:"next"` // when the next key is made without anybody asking
}

// RotateIssuer asks for new keys of the issuer.
type RotateIssuer struct {
	// Lead is how long they are published before they sign; 0: IssuerLead.
	Lead time.Duration `json:"lead,omitempty"`
	// Compromised ends the keys of before at once: what they signed verifies no more, as
	// soon as those who check fetch the keys again.
	Compromised bool `json:"compromised,omitempty"`
}

// Where the documents of an issuer stand below its URL (OpenID Connect Discovery 1.0).
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	KeySetPath    = "/.well-known/jwks"
)

// DiscoveryDocument is what those who are shown a token read first.
func DiscoveryDocument(issuer string) []byte {
	issuer = strings.TrimRight(issuer, "/")
	b, err := json.Marshal(map[string]any{
		"issuer": issuer, "jwks_uri": issuer + KeySetPath,
		"response_types_supported": []string{"id_token"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": IssuerAlgorithms(), "scopes_supported": []string{"openid"},
		"claims_supported": IDTokenClaims(),
	})
	if err != nil {
		panic(err) // of strings
	}
	return append(b, '\n')
}

// IDTokenClaims lists the claims that ID tokens may have.
func IDTokenClaims() []string {
	return []string{
		"iss", "sub", "aud", "exp", "iat", "nbf", "jti",
		"repository", "repository_id", "repository_owner", "repository_owner_id", "repository_visibility",
		"ref", "ref_type", "ref_protected", "sha", "base_ref", "head_ref", "event_name", "actor", "actor_id", "actor_type", "on_behalf_of",
		"workflow", "workflow_ref", "workflow_sha", "job_workflow_ref", "job_workflow_sha", "run_id", "run_number", "run_attempt",
		"job", "job_id", "environment", "environment_tier", "tier", "plan_digest", "runner_environment", "https://aws.amazon.com/tags",
	}
}

// IssuedToken is an ID token that a job was given, or refused; its value is not kept.
type IssuedToken struct {
	At       time.Time `json:"at"`
	Job      JobID     `json:"job"`
	Audience string    `json:"audience"`
	Subject  string    `json:"subject,omitempty"`
	ID       string    `json:"jti,omitempty"`
	Kid      string    `json:"kid,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
	Step     int       `json:"step,omitempty"`    // the runner's word; 0: none is known
	Refused  string    `json:"refused,omitempty"` // why there was none
}

// IssuerTx keeps when keys of the issuer sign; never the keys.
type IssuerTx interface {
	Put(IssuerKey) error       // insert or replace by id
	List() (IssuerKeys, error) // by time and id
	Delete(KeyID) error        // CodeNotFound when there is none
}
