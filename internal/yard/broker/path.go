package broker

import (
	"errors"
	"net/url"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// maxPath bounds what is compared; servers commonly take 8 KiB.
const maxPath = 16 << 10

var (
	errPath  = errors.New("the path is not one that can be compared with a rule")
	errDots  = errors.New("the path has a dot segment")
	errEmpty = errors.New("the path has an empty segment")
	errSlash = errors.New("the path has an escaped slash")
)

// canonicalPath returns the path in the one form that is compared with rules and sent
// on: unreserved characters in clear, the other escapes in capitals (RFC 3986, 6.2.2).
// It refuses what servers read in different ways. One escaped slash may stay, that of a
// scoped package of npm (/@SCOPE%2fNAME), which is meant as a slash.
func canonicalPath(u *url.URL) (string, error) {
	raw := u.EscapedPath()
	if raw == "" {
		raw = "/"
	}
	if raw[0] != '/' || len(raw) > maxPath || u.Opaque != "" {
		return "", errPath
	}
	path, err := canonical(raw)
	if err != nil {
		return "", err
	}
	if strings.Count(path, "%2F") > 1 {
		return "", errSlash
	}
	segments := strings.Split(path[1:], "/")
	for i, s := range segments {
		if s == "" && i < len(segments)-1 {
			return "", errEmpty
		}
		if before, _, ok := strings.Cut(s, "%2F"); ok && (len(before) < 2 || before[0] != '@') {
			return "", errSlash
		}
		// What follows a semicolon is cut off by some servers before they resolve dots.
		name, _, _ := strings.Cut(s, ";")
		for _, part := range strings.Split(name, "%2F") {
			if part == "." || part == ".." {
				return "", errDots
			}
		}
	}
	return path, nil
}

// canonical rewrites the escapes of a path.
func canonical(raw string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c <= ' ' || c >= 0x7f || c == '\\' || c == '#' || c == '?' {
			return "", errPath
		}
		if c != '%' {
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(raw) {
			return "", errPath
		}
		hi, lo := unhex(raw[i+1]), unhex(raw[i+2])
		if hi < 0 || lo < 0 {
			return "", errPath
		}
		d := byte(hi<<4 | lo)
		switch {
		case d < ' ' || d == 0x7f || d == '\\':
			return "", errPath
		case d >= 'a' && d <= 'z' || d >= 'A' && d <= 'Z' || d >= '0' && d <= '9' || strings.IndexByte("-._~", d) >= 0:
			b.WriteByte(d)
		default:
			b.WriteString("%" + strings.ToUpper(raw[i+1:i+3]))
		}
		i += 2
	}
	return b.String(), nil
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// allowsPath reports whether a canonical path is one of the rule's. A path of a rule that
// ends in a slash stands for all below it, another for itself and all below it.
func allowsPath(r sallyport.CredentialRule, path string) bool {
	if len(r.Paths) == 0 {
		return true
	}
	path = strings.Replace(path, "%2F", "/", 1) // canonicalPath leaves that of a scope alone
	for _, allowed := range r.Paths {
		allowed, err := canonical(allowed)
		if err != nil || allowed == "" {
			continue
		}
		rest, ok := strings.CutPrefix(path, allowed)
		if ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(allowed, "/")) {
			return true
		}
	}
	return false
}
