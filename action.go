package sallyport

import (
	"context"
	"io"
	"path"
)

// Actions gets what workflows use of other repositories, as trees of their
// commits. Servers and content are hostile: transfers are bounded, nothing of
// a repository runs, and what is handed out is named by its digest.
//
// A tree is a tar that depends on the commit's files alone: regular files (0644 or 0755)
// and symbolic links that stay within it. Metadata files of actions and workflow files
// stand first, so that reading them costs little.
//
// Errors: CodeNotFound when no server has the repository, ref or commit;
// CodeConflict when a tree is not the one that was named; CodeUnavailable when a
// server cannot be asked now; CodeInvalid for what can never be fetched.
type Actions interface {
	// Resolve asks the servers which commit the ref of a repository (owner/name) is now.
	// A ref of 40 hex digits is that commit.
	Resolve(ctx context.Context, repository, ref string) (PlanSource, error)
	// Keep makes sure that the tree of the source's commit is kept, fetching it when it is
	// not, and returns its digest. A digest that is set must be that of the tree.
	Keep(ctx context.Context, s PlanSource) (Digest, error)
	// Open returns a tree that is kept. Only Keep tells whether it is.
	Open(ctx context.Context, tree Digest) (io.ReadCloser, error)
}

// ActionMetadata reports whether a path in a tree is one of the files that stand first:
// an action's metadata or a workflow.
func ActionMetadata(file string) bool {
	dir, name := path.Split(file)
	ext := path.Ext(name)
	return name == "action.yml" || name == "action.yaml" || dir == ".github/workflows/" && (ext == ".yml" || ext == ".yaml")
}
