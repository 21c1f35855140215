package workflow

import (
	"slices"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

// Scopes of the job's token, and what may be granted.
var (
	tokenScopes = []string{
		"actions", "artifact-metadata", "attestations", "checks", "code-quality", "contents", "copilot-requests", "deployments",
		"discussions", "id-token", "issues", "models", "packages", "pages", "pull-requests",
		"repository-projects", "security-events", "statuses", "vulnerability-alerts",
	}
	tokenGrants = []string{"read", "write", "none"}
	// tokenGrantsOf are the grants of scopes that do not have all.
	tokenGrantsOf = map[string][]string{
		"copilot-requests":     {"write", "none"},
		"id-token":             {"write", "none"},
		"models":               {"read", "none"},
		"vulnerability-alerts": {"read", "none"},
	}
)

// permissions reads a permissions block. The result is never empty: a scope
// that is not granted is listed as none, so that "{}" cannot be taken for
// "not set".
func (d *decoder) permissions(n *yaml.Node) sallyport.Permissions {
	out := sallyport.Permissions{}
	grant := "none"
	if n.Kind == yaml.ScalarNode {
		switch t := d.text(n, "permissions"); t.Text {
		case "read-all":
			grant = "read"
		case "write-all":
			grant = "write"
		default:
			d.report(t.Pos, "permissions is %s; allowed are read-all, write-all, {} and a mapping of scopes", quote(t.Text))
		}
	}
	for _, scope := range tokenScopes {
		out[scope] = grant
		if of := tokenGrantsOf[scope]; of != nil && !slices.Contains(of, grant) {
			out[scope] = "none"
			if grant == "write" {
				out[scope] = "read"
			}
		}
	}
	if n.Kind != yaml.ScalarNode {
		for _, e := range d.fields(n, "permissions", tokenScopes) {
			grants := tokenGrants
			if of := tokenGrantsOf[e.key.Text]; of != nil {
				grants = of
			}
			out[e.key.Text] = d.oneOf(e.val, "permissions."+e.key.Text, grants)
		}
	}
	return out
}
