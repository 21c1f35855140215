package sallyport

import "slices"

// Algorithms of ID tokens (RFC 7518, section 3.1).
const (
	RS256 = "RS256" // which everybody takes
	ES256 = "ES256"
)

// Audience is somebody to whom a job may show an ID token.
type Audience struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm,omitempty"` // "": RS256
}

// Audiences is an exact list of them: there are no patterns. Nil is one that nobody
// declared; one that is empty allows none.
type Audiences []Audience

// Find returns the audience of the name.
func (l Audiences) Find(name string) (Audience, bool) {
	i := slices.IndexFunc(l, func(a Audience) bool { return a.Name == name })
	if i < 0 {
		return Audience{}, false
	}
	return l[i], true
}

// WellKnownAudiences are those that a job may have tokens for where nobody declared any,
// besides the installation's own. Each is what one public service expects of everybody, so
// that a token for it is good there alone, and there only for those who trust its subject.
func WellKnownAudiences() Audiences {
	return Audiences{
		{Name: "sts.amazonaws.com"},
		{Name: "sts.amazonaws.com.cn"},
		{Name: "api://AzureADTokenExchange"},
		{Name: "sigstore"},
		{Name: "pypi"},
		{Name: "testpypi"},
		{Name: "npm:registry.npmjs.org"},
	}
}
