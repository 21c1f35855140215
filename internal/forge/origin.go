package forge

import (
	"context"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// Origin returns owner and name of the repository that the work tree around dir calls
// origin; ok is false when it has none, or one whose address does not end with both.
func (g *Git) Origin(ctx context.Context, dir string) (owner, name string, ok bool) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", "", false
	}
	tree, err := findWorkTree(dir)
	if err != nil || tree.common == "" {
		return "", "", false
	}
	// Only that file is read, without what it includes.
	out, err := g.output(ctx, command{args: []string{"config", "--no-includes", "--file", filepath.Join(tree.common, "config"), "--get", "remote.origin.url"}})
	if err != nil {
		return "", "", false
	}
	return ownerAndName(strings.TrimSpace(string(out)))
}

var (
	scpAddress = regexp.MustCompile(`^(?:[A-Za-z0-9._-]+@)?([A-Za-z0-9.-]{2,}):([^:]+)$`)
	namePart   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)
)

// ownerAndName reads the address of a repository on a server, as a URL or as scp writes it.
func ownerAndName(address string) (owner, name string, ok bool) {
	var path string
	if u, err := url.Parse(address); err == nil && u.Scheme != "" && u.Host != "" {
		path = u.Path
	} else if m := scpAddress.FindStringSubmatch(address); m != nil {
		path = m[2]
	}
	parts := strings.Split(strings.Trim(strings.TrimSuffix(strings.TrimSuffix(path, "/"), ".git"), "/"), "/")
	if len(parts) < 2 {
		return "", "", false
	}
	owner, name = parts[len(parts)-2], parts[len(parts)-1]
	return owner, name, namePart.MatchString(owner) && namePart.MatchString(name)
}
