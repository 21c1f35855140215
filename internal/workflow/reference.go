package workflow

import (
	"path"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// maxReference bounds a reference; each part of one is a part of a path.
const maxReference = 500

// Reference is what "uses" names of another repository.
type Reference struct {
	Repository string // OWNER/NAME
	Path       string // of the action's directory or the workflow's file; "" is the top
	Ref        string // a tag, a branch or a commit
}

// ParseReference reads OWNER/REPOSITORY[/PATH]@REF.
func ParseReference(uses string) (Reference, error) {
	bad := func(why string) (Reference, error) {
		return Reference{}, sallyport.Errorf(sallyport.CodeInvalid, "%.200q is not an action of another repository: %s", uses, why).
			WithHint("write OWNER/REPOSITORY@REF, or OWNER/REPOSITORY/DIRECTORY@REF")
	}
	if len(uses) > maxReference {
		return bad("it is too long")
	}
	name, ref, ok := strings.Cut(uses, "@")
	if !ok || ref == "" {
		return bad("it has no @REF")
	}
	parts := strings.SplitN(name, "/", 3)
	if len(parts) < 2 || !isName(parts[0]) || !isName(parts[1]) {
		return bad("it does not begin with OWNER/REPOSITORY")
	}
	if !isRef(ref) {
		return bad("what follows the @ is not a ref")
	}
	r := Reference{Repository: parts[0] + "/" + parts[1], Ref: ref}
	if len(parts) == 3 {
		r.Path = strings.TrimSuffix(parts[2], "/")
		if r.Path == "" || path.Clean(r.Path) != r.Path || r.Path == ".." || strings.HasPrefix(r.Path, "../") || path.IsAbs(r.Path) ||
			strings.ContainsAny(r.Path, "\\\x00") {
			return bad("its path leads elsewhere")
		}
	}
	return r, nil
}

// Entry is the reference without its path: what the action lock lists.
func (r Reference) Entry() string { return r.Repository + "@" + r.Ref }

func (r Reference) String() string {
	if r.Path == "" {
		return r.Entry()
	}
	return r.Repository + "/" + r.Path + "@" + r.Ref
}

// isName accepts the name of an owner or a repository. It becomes part of an address
// and of a path, so it is one element of either and nothing else.
func isName(s string) bool {
	if s == "" || len(s) > 100 || strings.Trim(s, ".") == "" || s[0] == '-' || strings.HasSuffix(strings.ToLower(s), ".git") {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// isRef accepts the name of a branch or a tag, or a commit; stricter than
// git-check-ref-format, which allows all of Unicode. As on GitHub, a reference has
// one @ alone.
func isRef(s string) bool {
	if len(s) > 250 || s[0] == '-' || strings.HasSuffix(s, ".lock") || strings.HasSuffix(s, ".") || strings.Contains(s, "..") {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("~^:?*[\\\"'`$;|&<>(){}!#%@", c) >= 0 {
			return false
		}
	}
	for element := range strings.SplitSeq(s, "/") {
		if element == "" || element[0] == '.' || strings.HasSuffix(element, ".lock") {
			return false
		}
	}
	return true
}
