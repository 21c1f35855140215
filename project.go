package sallyport

import (
	"strings"
	"time"
)

// Project is one repository with its runs, artifacts and deployments.
type Project struct {
	ID            ProjectID `json:"id"`
	Name          string    `json:"name"` // unique; names the repository: NAME.git
	DefaultBranch string    `json:"default_branch"`
	CreatedAt     time.Time `json:"created_at"`
}

// DefaultRef is the full name of the protected default branch.
func (p Project) DefaultRef() string { return "refs/heads/" + p.DefaultBranch }

// ValidName checks a project's or an environment's name: 1 to 64 of a-z, 0-9,
// '-', '_' and '.', beginning with a letter or digit, not ending in ".git" or '.'.
// The same name is used in URLs, file names and certificate subjects.
func ValidName(what, name string) error {
	ok := len(name) > 0 && len(name) <= 64 && !strings.HasSuffix(name, ".git") && !strings.HasSuffix(name, ".") && !strings.Contains(name, "..")
	for i, c := range []byte(name) {
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '_' && c != '.') {
			ok = false
		}
	}
	if !ok {
		return Errorf(CodeInvalid, "%s %.80q is not a valid name", what, name).
			WithHint("use 1 to 64 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit")
	}
	return nil
}
