package egress

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport"
)

var (
	credentialName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	secretName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	headerName     = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+.^_|~-]{1,100}$`) // a token of RFC 9110
	awsWord        = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	databaseWord   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$-]{0,62}$`) // a PostgreSQL name
)

const maxEnvironment = 255 // GitHub's bound of a name

// credentialKeys says which keys a kind needs and which it may have, besides those of all kinds.
func credentialKeys(k sallyport.CredentialKind) (needs, may []string, ok bool) {
	http := []string{"methods", "paths"}
	switch k {
	case sallyport.CredentialBearer:
		return nil, http, true
	case sallyport.CredentialBasic, sallyport.CredentialRegistry:
		return []string{"user"}, http, true
	case sallyport.CredentialHeader:
		return []string{"header"}, http, true
	case sallyport.CredentialAWS:
		return []string{"user", "region", "service"}, http, true
	case sallyport.CredentialPostgres:
		return []string{"user"}, []string{"database", "role"}, true
	}
	return nil, nil, false
}

func (r *reader) credentials(n *yaml.Node) []sallyport.CredentialRule {
	var out []sallyport.CredentialRule
	for _, item := range r.list(n, "credentials", maxCredentials) {
		c, ok := r.credential(item)
		if !ok {
			continue
		}
		if i := slices.IndexFunc(out, func(o sallyport.CredentialRule) bool { return o.Name == c.Name }); i >= 0 {
			r.fail(item, "a credential with the name %s stands in line %d; give this one another", c.Name, out[i].Pos.Line)
			continue
		}
		out = append(out, c)
	}
	return out
}

func (r *reader) credential(item *yaml.Node) (sallyport.CredentialRule, bool) {
	c := sallyport.CredentialRule{Pos: place(item)}
	kind := item
	plain := func(into *string, what string) func(*yaml.Node) {
		return func(n *yaml.Node) { *into = r.text(n, what) }
	}
	ok := r.fields(item, "a credential", fields{
		"name": func(n *yaml.Node) {
			c.Name = r.word(n, "name", credentialName, "use 1 to 64 of a-z, 0-9, '-', '_' and '.'")
		},
		"secret": func(n *yaml.Node) {
			c.Secret = r.word(n, "secret", secretName, "write the name of the secret, such as UPLOAD_TOKEN, never its value")
		},
		"kind":   func(n *yaml.Node) { kind, c.Kind = n, sallyport.CredentialKind(n.Value) },
		"user":   plain(&c.User, "user"),
		"header": func(n *yaml.Node) { c.Header = r.header(n) },
		"host":   func(n *yaml.Node) { c.Host = r.host(n, false) },
		"port":   func(n *yaml.Node) { c.Port = r.port(n) },
		"methods": func(n *yaml.Node) {
			c.Methods = r.methods(n)
		},
		"paths":   func(n *yaml.Node) { c.Paths = r.paths(n) },
		"region":  func(n *yaml.Node) { c.Region = r.word(n, "region", awsWord, "write it as in eu-central-1") },
		"service": func(n *yaml.Node) { c.Service = r.word(n, "service", awsWord, "write it as in s3") },
		"database": func(n *yaml.Node) {
			c.Database = r.word(n, "database", databaseWord, "write the name of one database")
		},
		"role": func(n *yaml.Node) { c.Role = r.word(n, "role", databaseWord, "write the name of one role") },
		"jobs": func(n *yaml.Node) { c.Jobs = r.jobs(n) },
		"environments": func(n *yaml.Node) {
			c.Environments = r.words(n, "environments", func(n *yaml.Node) string {
				v := r.text(n, "environments")
				if len(v) > maxEnvironment {
					r.fail(n, "environments: no environment has a name of more than %d bytes", maxEnvironment)
					return ""
				}
				return v
			})
		},
		"expose": func(n *yaml.Node) { c.Expose = r.boolean(n) },
	}, "name", "secret", "kind", "host")
	return c, r.kind(item, kind, c.Kind) && ok
}

// kind checks that a credential has the keys of its kind and no others'.
func (r *reader) kind(item, at *yaml.Node, k sallyport.CredentialKind) bool {
	if at == item { // it has none, which is said already
		return false
	}
	needs, may, ok := credentialKeys(k)
	if !ok {
		r.fail(at, "kind: %s is not one; write bearer, basic, header, registry, aws or postgres", quote(at))
		return false
	}
	before := len(r.diags)
	has := make(map[string]bool)
	for i := 0; i+1 < len(item.Content); i += 2 {
		key := item.Content[i]
		has[key.Value] = true
		switch key.Value {
		case "user", "header", "methods", "paths", "region", "service", "database", "role":
			if !slices.Contains(needs, key.Value) && !slices.Contains(may, key.Value) {
				r.fail(key, "kind: %s has no %s:; take it out", k, key.Value)
			}
		}
	}
	for _, key := range needs {
		if !has[key] {
			r.fail(item, "kind: %s needs %s:", k, key)
		}
	}
	return len(r.diags) == before
}

// header reads the name of a header that says who asks; those that say how the
// message is framed or where it goes are the door's.
func (r *reader) header(n *yaml.Node) string {
	v := r.word(n, "header", headerName, "write a header's name, such as X-Api-Key")
	switch strings.ToLower(v) {
	case "host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive", "expect", "proxy-authorization", "proxy-connection":
		r.fail(n, "header: %s says how a message is sent, not who sends it; write the header that the service reads the credential from", quote(n))
		return ""
	}
	return v
}

// CredentialPort is the port at which a credential may be used.
func CredentialPort(c sallyport.CredentialRule) int {
	switch {
	case c.Port != 0:
		return c.Port
	case c.Kind == sallyport.CredentialPostgres:
		return 5432
	}
	return 443
}

// CredentialAsks is what a credential may be used for over HTTP; of PostgreSQL that is nothing.
func CredentialAsks(c sallyport.CredentialRule) Asks {
	if c.Kind == sallyport.CredentialPostgres {
		return Asks{Methods: []string{""}}
	}
	if len(c.Methods) == 0 {
		return Asks{Methods: []string{"GET", "HEAD"}, Paths: c.Paths}
	}
	return Asks{Methods: c.Methods, Paths: c.Paths}
}

// Lendable reports whether a job may use a credential. The rule's jobs and environments must
// name it, and its ref must be a protected one; instead of that, the job may have entered an
// environment of the rule that admits named refs only (guarded). env is "" for none; names of
// environments do not differ by case.
func Lendable(c sallyport.CredentialRule, job, env string, guarded bool, tier sallyport.Tier) bool {
	if len(c.Jobs) > 0 && !slices.Contains(c.Jobs, job) {
		return false
	}
	need := sallyport.TierProtected
	if len(c.Environments) > 0 {
		if env == "" || !slices.ContainsFunc(c.Environments, func(e string) bool { return strings.EqualFold(e, env) }) {
			return false
		}
		if guarded {
			need = sallyport.TierMember
		}
	}
	return tier.Covers(need)
}
