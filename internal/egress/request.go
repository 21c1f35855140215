package egress

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// methods that rules may name: those of HTTP and of the protocols upon it that
// clients speak. CONNECT and TRACE are not among them.
func knownMethod(m string) bool {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", // RFC 9110, 5789
		"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", // WebDAV, RFC 4918
		"REPORT", "SEARCH", "CHECKOUT", "CHECKIN", "MERGE", "MKACTIVITY", "VERSION-CONTROL": // RFC 3253, 5323
		return true
	}
	return false
}

func (r *reader) methods(n *yaml.Node) []string {
	return r.words(n, "methods", func(n *yaml.Node) string {
		v := r.text(n, "methods")
		switch {
		case v == "":
			return ""
		case knownMethod(v):
			return v
		case knownMethod(strings.ToUpper(v)):
			r.fail(n, "methods: %s: write it in capitals: %s", quote(n), strings.ToUpper(v))
		case strings.EqualFold(v, "CONNECT"):
			r.fail(n, "methods: CONNECT opens a tunnel in which anything may go; name the host behind it in a rule")
		case strings.EqualFold(v, "TRACE"):
			r.fail(n, "methods: TRACE sends credentials back; take it out")
		default:
			r.fail(n, "methods: %s is no method of HTTP; write for example GET, HEAD or POST", quote(n))
		}
		return ""
	})
}

func (r *reader) paths(n *yaml.Node) []string {
	out := r.words(n, "paths", func(n *yaml.Node) string {
		v := r.text(n, "paths")
		switch {
		case v == "":
		case v[0] != '/':
			r.fail(n, "paths: %s must begin with a slash; write /%s", quote(n), strings.TrimLeft(v, "/"))
		case v == "/":
			r.fail(n, "paths: / is every path; leave the key out")
		case strings.Contains(v, "*"):
			r.fail(n, "paths: %s: a path is a prefix and has no stars; end it with a slash for all that is below", quote(n))
		case strings.ContainsAny(v, "?#"):
			r.fail(n, "paths: %s: only the path is compared; leave out what begins with ? or #", quote(n))
		case !cleanPath(v):
			r.fail(n, "paths: %s holds an empty part, a dot part, a backslash or a percent sign, which servers read in different ways; write the path in its plain form", quote(n))
		default:
			return v
		}
		return ""
	})
	for i, p := range out {
		for j, q := range out {
			if i != j && hasPath(q, p) {
				r.fail(n, "paths: %q is below %q already; leave it out", p, q)
				return nil
			}
		}
	}
	return out
}

// cleanPath reports whether a decoded path has one reading only.
func cleanPath(p string) bool {
	if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, `\%`) || strings.ContainsFunc(p, control) {
		return false
	}
	parts := strings.Split(p[1:], "/")
	for i, part := range parts {
		name, _, _ := strings.Cut(part, ";") // some servers cut parameters off
		if name == "." || name == ".." || part == "" && i < len(parts)-1 {
			return false
		}
	}
	return true
}

// PlainPath decodes the path of a request as it stood in the request line, without
// its query. It answers false for one that servers read in different ways, such as one with dot
// parts or encoded twice, which no rule with paths lets through. An encoded slash is a slash.
func PlainPath(escaped string) (string, bool) {
	if len(escaped) > 64<<10 {
		return "", false
	}
	p, err := url.PathUnescape(escaped)
	if err != nil || !cleanPath(p) {
		return "", false
	}
	return p, true
}

// hasPath reports whether a plain path is the prefix or below it.
func hasPath(prefix, p string) bool {
	rest, ok := strings.CutPrefix(p, prefix)
	return ok && (rest == "" || strings.HasSuffix(prefix, "/") || rest[0] == '/')
}

// Asks is what may be asked of a host over HTTP: of a rule or a credential.
type Asks struct {
	Methods []string // none: all
	Paths   []string // none: all
}

// Allow reports whether a request may be sent, and else whether the method or the path is at
// fault: "method" or "path". The path is as it stood in the request line, without its query.
func (a Asks) Allow(method, escapedPath string) (fault string, ok bool) {
	if len(a.Methods) > 0 && !slices.Contains(a.Methods, method) {
		return "method", false
	}
	if len(a.Paths) == 0 {
		return "", true
	}
	p, plain := PlainPath(escapedPath)
	if plain && slices.ContainsFunc(a.Paths, func(prefix string) bool { return hasPath(prefix, p) }) {
		return "", true
	}
	return "path", false
}

// jobKey is what a workflow may call a job.
var jobKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,99}$`)

func (r *reader) jobs(n *yaml.Node) []string {
	return r.words(n, "jobs", func(n *yaml.Node) string {
		return r.word(n, "jobs", jobKey, "write the job's key as it stands under jobs: of the workflow")
	})
}
