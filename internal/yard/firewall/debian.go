package firewall

import (
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

const maxRelease = 64 << 20

var (
	debPath    = regexp.MustCompile(`^[A-Za-z0-9.+~_/:-]+$`)
	releases   = []string{"InRelease", "Release", "Release.gpg"}
	byHashPath = regexp.MustCompile(`/by-hash/SHA256/([0-9a-f]{64})$`)
	binaryPath = regexp.MustCompile(`^(?:[A-Za-z0-9._-]+/)*binary-([a-z0-9-]+)/Packages(\.gz|\.xz|\.bz2)?$`)
)

// debian answers an apt archive. What is signed passes as it is, for apt verifies it; what it names
// must have the checksums that it states; a package must be in an index that it names.
func (a answer) debian(rest string) error {
	file, err := url.PathUnescape(rest)
	if err != nil || !debPath.MatchString(file) || path.Clean(file) != file {
		return &upstreamError{http.StatusNotFound, "this is no path of an apt archive"}
	}
	if strings.HasSuffix(file, ".deb") || strings.HasSuffix(file, ".udeb") {
		return a.deb(file)
	}
	below, ok := strings.CutPrefix(file, "dists/")
	if !ok {
		return &upstreamError{http.StatusNotFound, "packages and their indexes are served here, not sources and other files of an archive"}
	}
	u, err := a.up.at((&url.URL{Path: file}).EscapedPath())
	if err != nil {
		return err
	}
	if base := path.Base(below); slices.Contains(releases, base) {
		c, _, err := a.j.f.get(a.r.Context(), ask{up: a.up, url: u, age: pageAge, limit: maxRelease})
		if err != nil {
			return err
		}
		defer c.Close()
		a.j.f.sawSuite(a.up, path.Dir(below)) // the archive has it; apt asks for its indexes as soon as it has this
		a.send(c)
		return nil
	}
	if m := byHashPath.FindStringSubmatch(below); m != nil {
		return a.indexFile(u, m[1])
	}
	for _, suite := range a.j.f.suites(a.up) {
		inner, ok := strings.CutPrefix(below, suite+"/")
		if !ok {
			continue
		}
		r, err := a.release(a.r.Context(), suite)
		if err != nil {
			return err
		}
		if sum, ok := r.sums[inner]; ok {
			return a.indexFile(u, sum)
		}
		return &upstreamError{http.StatusNotFound, "the archive's Release file does not name this index"}
	}
	return &upstreamError{http.StatusNotFound, "the archive's Release file was not asked for first"}
}

// indexAsk asks for an index that must have a checksum.
func (a answer) indexAsk(u *url.URL, sum string) ask {
	q := ask{up: a.up, url: u, age: -1, limit: maxFile, file: true, check: func(n *note, _ string) error {
		if n.Sums["sha256"] != sum {
			return &upstreamError{http.StatusServiceUnavailable, "the archive's index is not the one that its Release file names; it may be changing, try again"}
		}
		return nil
	}}
	if n, ok := a.j.f.cache.look(q.key()); ok && n.Sums["sha256"] != sum {
		q.age = 0
	}
	return q
}

func (a answer) indexFile(u *url.URL, sum string) error { return a.pass(a.indexAsk(u, sum)) }

// release is what is read of a Release file.
type release struct {
	sums map[string]string // sha256 by path
}

func (a answer) release(ctx context.Context, suite string) (*release, error) {
	var err error
	for _, name := range releases[:2] {
		var u *url.URL
		if u, err = a.up.at((&url.URL{Path: "dists/" + suite + "/" + name}).EscapedPath()); err != nil {
			return nil, err
		}
		var c *content
		if c, _, err = a.j.f.get(ctx, ask{up: a.up, url: u, age: pageAge, limit: maxRelease}); absent(err) {
			continue
		} else if err != nil {
			return nil, err
		}
		defer c.Close()
		var got any
		got, err = a.j.f.fact("release "+string(c.note.Digest), func() (any, error) { return parseRelease(c) })
		if err != nil {
			return nil, &upstreamError{http.StatusBadGateway, fmt.Sprintf("the archive's Release file of %s is malformed: %v", printable(suite, 100), err)}
		}
		return got.(*release), nil
	}
	return nil, err
}

// deb hands out a package.
func (a answer) deb(file string) error {
	pkg, err := a.findDeb(a.r.Context(), file)
	if err != nil {
		return err
	}
	u, err := a.up.at((&url.URL{Path: file}).EscapedPath())
	if err != nil {
		return err
	}
	v := version{kind: KindDebian, name: pkg.name, version: pkg.version, arch: pkg.arch}
	q := ask{up: a.up, url: u, limit: maxFile}
	if n, ok := a.j.f.cache.look(q.key()); ok && n.Sums["sha256"] != pkg.sha256() {
		a.j.f.cache.forget(q.key()) // the archive has another under the name now
	}
	return a.hand(v, q, func(context.Context) (version, map[string][]string, error) {
		return v, map[string][]string{"sha256": {pkg.sha256()}}, nil
	})
}

// findDeb looks a package up in the indexes of the archive, those of its component first.
func (a answer) findDeb(ctx context.Context, file string) (debFile, error) {
	var last error
	for _, suite := range a.j.f.suites(a.up) {
		r, err := a.release(ctx, suite)
		if err != nil {
			last = err
			continue
		}
		for _, index := range r.indexes(file, architectures()) {
			u, err := a.up.at((&url.URL{Path: "dists/" + suite + "/" + index}).EscapedPath())
			if err != nil {
				return debFile{}, err
			}
			list, err := a.packages(ctx, u, r.sums[index])
			if err != nil {
				last = err
				continue
			}
			if pkg, ok := list[file]; ok {
				return pkg, nil
			}
		}
	}
	var known *upstreamError
	if last != nil && errors.As(last, &known) && !absent(last) {
		return debFile{}, last
	}
	return debFile{}, &upstreamError{http.StatusForbidden, fmt.Sprintf("debian package %s is refused: it is in no index that the archive's Release file names", printable(path.Base(file), 200))}
}

func (a answer) packages(ctx context.Context, u *url.URL, sum string) (map[string]debFile, error) {
	got, err := a.j.f.fact("packages "+sum, func() (any, error) {
		c, _, err := a.j.f.get(ctx, a.indexAsk(u, sum))
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return a.j.f.parsing(ctx, func() (any, error) {
			var from io.Reader = c
			switch path.Ext(u.Path) {
			case ".gz":
				if from, err = gzip.NewReader(c); err != nil {
					return nil, &upstreamError{http.StatusBadGateway, "the archive's index is malformed"}
				}
			case ".xz":
				if from, err = openXZ(c); err != nil {
					return nil, &upstreamError{http.StatusBadGateway, "the archive's index is malformed"}
				}
			case ".bz2":
				from = bzip2.NewReader(c)
			}
			list, err := parsePackages(from)
			if err != nil {
				return nil, &upstreamError{http.StatusBadGateway, fmt.Sprintf("the archive's index is malformed: %v", err)}
			}
			return list, nil
		})
	})
	if err != nil {
		return nil, err
	}
	return got.(map[string]debFile), nil
}

// forms are those of a list, the cheapest first. The last is often named and rarely there.
var forms = []string{".gz", ".xz", ".bz2", ""}

// indexes returns the lists of packages that may name file, the likeliest first: one form of each, which can be read here.
func (r *release) indexes(file string, architectures []string) []string {
	var out []string
	for name := range r.sums {
		m := binaryPath.FindStringSubmatch(name)
		if m == nil || !slices.Contains(architectures, m[1]) {
			continue
		}
		better := forms[:slices.Index(forms, m[2])]
		bare := strings.TrimSuffix(name, m[2])
		if slices.ContainsFunc(better, func(form string) bool { _, ok := r.sums[bare+form]; return ok }) {
			continue
		}
		out = append(out, name)
	}
	far := func(index string) int {
		component, _, _ := strings.Cut(index, "/")
		if strings.Contains(file, "/"+component+"/") {
			return 0
		}
		return 1
	}
	slices.SortFunc(out, func(a, b string) int {
		if d := far(a) - far(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return out
}

// sawSuite remembers that a suite of an archive is used.
func (f *Firewall) sawSuite(up *Upstream, suite string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.seen[up], suite) && !slices.Contains(up.Suites, suite) && len(f.seen[up]) < maxLearned {
		f.seen[up] = append(f.seen[up], suite)
	}
}

// suites are those of an archive that the host's configuration names or that a job asked for.
func (f *Firewall) suites(up *Upstream) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Concat(up.Suites, f.seen[up])
}

// architectures are those whose packages jobs may have.
func architectures() []string {
	native, ok := map[string]string{"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}[runtime.GOARCH]
	if !ok {
		native = runtime.GOARCH
	}
	return []string{native, "all", "i386"}
}
