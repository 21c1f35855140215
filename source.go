package sallyport

import (
	"context"
	"io"
)

// Repositories keeps the projects' git repositories. Content is hostile:
// hooks never run, sizes and times are bounded, and no work tree is ever made
// by the control plane.
//
// Errors: CodeNotFound for an unknown repository, commit or path; CodeInvalid
// for a malformed name.
type Repositories interface {
	// Create makes an empty repository; it is not an error if it exists.
	Create(ctx context.Context, p Project) error
	// Refs returns every ref with its commit.
	Refs(ctx context.Context, p ProjectID) (map[string]string, error)
	// Commit returns facts about a commit.
	Commit(ctx context.Context, p ProjectID, commit string) (Commit, error)
	// ReadFile returns a file of a commit, at most max bytes (CodeInvalid beyond).
	ReadFile(ctx context.Context, p ProjectID, commit, path string, max int64) ([]byte, error)
	// ListFiles returns the paths of the regular files directly in dir.
	ListFiles(ctx context.Context, p ProjectID, commit, dir string) ([]string, error)
	// Changed returns the paths that differ between two commits, at most max of
	// them, and whether there were more. before may be "".
	Changed(ctx context.Context, p ProjectID, before, commit string, max int) (paths []string, more bool, err error)
	// Authors returns the names and addresses of authors, co-authors and committers of commit and of its
	// ancestors that are not those of before ("" for none), each once and at most max, and
	// whether there were more.
	Authors(ctx context.Context, p ProjectID, before, commit string, max int) (who []string, more bool, err error)
	// Contains reports whether commit is an ancestor of, or equal to, tip.
	Contains(ctx context.Context, p ProjectID, tip, commit string) (bool, error)
	// Bundle writes a tar of a bare repository that holds the commit and its history to
	// the given depth, to be fetched from inside a room. Depth 0 is all of it, with
	// all branches and tags in packed-refs.
	Bundle(ctx context.Context, p ProjectID, commit string, depth int, w io.Writer) error
}

// Commit is what is known of a commit. All text in it is untrusted.
type Commit struct {
	ID        string `json:"id"`
	Tree      string `json:"tree"`
	Subject   string `json:"subject"`
	Message   string `json:"message"`
	Author    string `json:"author"`
	Email     string `json:"email"`
	Timestamp string `json:"timestamp"` // RFC 3339
}
