package firewall

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport/internal/advisory"
)

// Media types of the simple repository API (PEP 691).
const (
	simpleJSON = "application/vnd.pypi.simple.v1+json"
	simpleHTML = "application/vnd.pypi.simple.v1+html"
	askSimple  = simpleJSON + ", " + simpleHTML + ";q=0.2, text/html;q=0.1"
)

const maxProject = 128

var projectName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// pypi answers the simple repository API.
func (a answer) pypi(rest string) error {
	name := strings.TrimSuffix(rest, "/")
	if name == "" {
		return &upstreamError{http.StatusNotFound, "the list of all projects is not served here"}
	}
	if strings.Contains(name, "/") { // a registry that keeps files below its pages
		return a.pypiFile(rest)
	}
	if len(name) > maxProject || !projectName.MatchString(name) {
		return &upstreamError{http.StatusNotFound, "this is no name of a project"}
	}
	v := version{kind: KindPyPI, name: advisory.Normal(name)}
	p, err := a.project(a.r.Context(), v.name, pageAge)
	if err != nil {
		return a.j.gone(v, err)
	}
	// pip says nothing about a page that it does not get, and everything about a file: what is refused as a whole
	// is offered as a whole, and refused when it is asked for.
	shown := p
	if a.j.judge(p.of(v)) == nil {
		shown = p.without(func(number string) bool {
			v := v
			v.version = number
			return a.j.tooYoung(p.of(v)) || a.j.known(v) != nil
		})
	}
	if len(shown.files) == 0 {
		shown = p
	}
	a.w.Header().Set("Vary", "Accept")
	if strings.Contains(a.r.Header.Get("Accept"), simpleJSON) {
		return a.text(simpleJSON, shown.json())
	}
	return a.text("text/html; charset=utf-8", shown.html())
}

// project returns what the registry says of a project.
func (a answer) project(ctx context.Context, name string, age time.Duration) (*project, error) {
	u, err := a.up.at(name + "/")
	if err != nil {
		return nil, err
	}
	c, _, err := a.j.f.get(ctx, page(a.up, u, askSimple, age))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	got, err := a.j.f.fact("pypi "+u.String()+" "+string(c.note.Digest), func() (any, error) {
		return a.j.f.parsing(ctx, func() (any, error) {
			raw, err := readAll(c)
			if err != nil {
				return nil, err
			}
			p, err := parseProject(raw, c.note.Type, name, u)
			if err != nil {
				return nil, &upstreamError{http.StatusBadGateway, fmt.Sprintf("the registry's page about %s is malformed: %v", name, err)}
			}
			return p, nil
		})
	})
	if err != nil {
		return nil, err
	}
	p := got.(*project)
	for _, f := range p.files {
		if _, ok := a.up.below(f.url.EscapedPath()); !ok || hostname(f.url.Host) != hostname(a.up.Base.Host) {
			a.j.f.learn(a.up, f.url.Scheme, f.url.Host)
		}
	}
	return p, nil
}

// pypiFile hands out a file of a project, or the metadata beside it.
func (a answer) pypiFile(rest string) error {
	registry := a
	if a.up.of != nil {
		registry.up = a.up.of
	}
	u, err := a.up.at(rest)
	if err != nil {
		return err
	}
	file := *u
	path, meta := strings.CutSuffix(u.EscapedPath(), ".metadata")
	if file.Path, err = url.PathUnescape(path); err != nil {
		return &upstreamError{http.StatusBadRequest, "the path is malformed"}
	}
	base := file.Path[strings.LastIndexByte(file.Path, '/')+1:]
	name, number, ok := splitFile(base)
	if !ok {
		return &upstreamError{http.StatusNotFound, "this is no file of a project"}
	}
	v := version{kind: KindPyPI, name: name, version: number}
	q := ask{up: a.up, url: u, limit: maxFile}
	if meta {
		q.limit = maxMetadata
	}
	return a.hand(v, q, func(ctx context.Context) (version, map[string][]string, error) {
		age := factsAge
		if _, cached := a.j.f.cache.look(q.key()); !cached {
			age = pageAge
		}
		p, err := registry.project(ctx, v.name, age)
		if err != nil {
			return v, nil, err
		}
		for _, f := range p.files {
			if f.name != base || f.url.EscapedPath() != file.EscapedPath() {
				continue
			}
			said := p.of(v)
			if said.withdrawn = f.yanked; !f.uploaded.IsZero() {
				said.published = f.uploaded
			}
			if meta && len(f.metadata) == 0 { // nothing vouches for it
				break
			}
			if meta {
				return said, f.metadata, nil
			}
			return said, f.hashes, nil
		}
		return v, nil, &upstreamError{http.StatusNotFound, fmt.Sprintf("the registry's page about %s does not name this file", v.name)}
	})
}

const maxMetadata = 16 << 20

// splitFile tells the project and the version from the name of a file (binary distribution format and PEP 625).
func splitFile(file string) (name, version string, ok bool) {
	if wheel, isWheel := strings.CutSuffix(file, ".whl"); isWheel {
		parts := strings.Split(wheel, "-")
		if len(parts) != 5 && len(parts) != 6 {
			return "", "", false
		}
		name, version = parts[0], parts[1]
	} else {
		stem := ""
		for _, ext := range []string{".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz"} {
			if s, cut := strings.CutSuffix(file, ext); cut {
				stem = s
			}
		}
		// Older names have hyphens: the version begins at the last one that a digit follows.
		for i := len(stem) - 2; i > 0; i-- {
			if stem[i] == '-' && stem[i+1] >= '0' && stem[i+1] <= '9' {
				name, version = stem[:i], stem[i+1:]
				break
			}
		}
	}
	if len(name) > maxProject || !projectName.MatchString(name) || version == "" || len(version) > 128 {
		return "", "", false
	}
	return advisory.Normal(name), version, true
}
