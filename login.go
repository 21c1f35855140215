package sallyport

import (
	"context"
	"errors"
	"net/url"
	"time"
)

// Proof is what a provider of identities proved about who sits at a browser. Issuer
// and Subject together are the person, for ever; everything else may change.
type Proof struct {
	Issuer  string
	Subject string
	Label   string   // what the provider calls them: for people to read, decides nothing
	Email   string   // that the provider verified, in lower case; else ""
	Groups  []string // as the provider writes them
	// At is when the person last proved who they are, strongly enough for what is
	// sensitive; its zero value is that this is not known.
	At time.Time
}

// LoginAttempt ties an answer of the provider to the browser that asked. Whoever
// keeps it gives it back as it was, to the same browser alone, for one answer.
type LoginAttempt struct {
	State    string // comes back in the answer
	Nonce    string // comes back in the signed token
	Verifier string // of PKCE (RFC 7636); goes to the provider alone, with the code
	At       time.Time
	Fresh    bool // the person is to prove anew who they are
}

// LoginCallback is the path at which a provider's answers come in.
const LoginCallback = "/login/callback"

// LoginProvider asks a provider of identities who somebody is, by OpenID Connect.
// It may be called concurrently.
type LoginProvider interface {
	// Name is what people know it by.
	Name() string
	// Begin returns the address to send the browser to; CodeUnavailable when the
	// provider does not answer.
	Begin(ctx context.Context, a LoginAttempt) (address string, err error)
	// Finish verifies the answer that the browser brought, and asks for the proof.
	// CodeDenied says why there is none; CodeUnavailable that the provider did not answer.
	Finish(ctx context.Context, a LoginAttempt, answer url.Values) (Proof, error)
}

// LoginDesk lets people in by what a provider proved. It believes the proof, and so
// is none of the Services: no client reaches it, only the face that verified.
type LoginDesk interface {
	// Enter returns a new session, and ends the old one of that browser, if there is any.
	// Who has no account gets one only as the operator's rules say; else CodeDenied, recorded.
	Enter(ctx context.Context, p Proof, old string) (session string, expires time.Time, err error)
	// Refused records a login that the face refused.
	Refused(ctx context.Context, why string)
}

// ErrLoginAgain is in the chain of a denial that a fresh login at the provider would lift.
var ErrLoginAgain = errors.New("a fresh login is needed")

// LoginLink is which account a person of a provider has.
type LoginLink struct {
	Issuer    string
	Subject   string
	Account   string
	CreatedAt time.Time
}

type LoginTx interface {
	// Put links an account to a person, in place of the one it had at that issuer;
	// CodeConflict when the person has another account.
	Put(LoginLink) error
	Get(issuer, subject string) (LoginLink, error)
	// Delete takes from an account the person that it has at an issuer, if it has one.
	Delete(issuer, account string) error
}
