package firewall

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"
)

// Bounds of Go modules; those of files are the go command's own.
const (
	maxGoMod      = modzip.MaxGoMod
	maxGoZip      = modzip.MaxZipFile
	maxGoInfo     = 64 << 10
	maxGoList     = 16 << 20
	maxGoVersions = 100_000
	// maxAsked is how many of the newest versions are asked for their age: the first old one ends it.
	maxAsked = 16
)

// goInfo is what a proxy says of a version.
type goInfo struct {
	Version string
	Time    time.Time
}

// module answers the module proxy protocol (go.dev/ref/mod, "GOPROXY protocol").
func (a answer) module(rest string) error {
	if sum, ok := strings.CutPrefix(rest, "sumdb/"); ok {
		return a.sumdb(sum)
	}
	path, err := url.PathUnescape(rest)
	if err != nil {
		return &upstreamError{http.StatusBadRequest, "the path is malformed"}
	}
	escaped, file, ok := strings.Cut(path, "/@")
	if !ok {
		return &upstreamError{http.StatusNotFound, "this is no path of the module proxy protocol"}
	}
	name, err := module.UnescapePath(escaped)
	if err != nil {
		return &upstreamError{http.StatusNotFound, fmt.Sprintf("%s is no module path", printable(escaped, 200))}
	}
	v := version{kind: KindGo, name: name}
	if r := a.j.known(v); r != nil {
		return r
	}
	switch {
	case file == "latest":
		return a.goLatest(v, escaped)
	case file == "v/list":
		return a.goList(v, escaped)
	}
	file, ok = strings.CutPrefix(file, "v/")
	dot := strings.LastIndexByte(file, '.')
	if !ok || dot <= 0 {
		return &upstreamError{http.StatusNotFound, "this is no path of the module proxy protocol"}
	}
	number, kind := file[:dot], file[dot+1:]
	if v.version, err = module.UnescapeVersion(number); err != nil {
		return &upstreamError{http.StatusNotFound, fmt.Sprintf("%s is no version", printable(number, 200))}
	}
	fixed := module.Check(name, v.version) == nil // else a branch, a commit or a part of a version
	switch {
	case kind == "info":
		if r := a.j.known(v); r != nil {
			return r
		}
		age := pageAge
		if fixed {
			age = fixedAge
		}
		q, err := a.goAsk(escaped, "@v/"+file, age, maxGoInfo)
		if err != nil {
			return err
		}
		if fixed { // go asks for it before the archive
			if next, err := a.goZipAsk(v, escaped, number); err == nil {
				a.ahead(next)
			}
		}
		return a.pass(q)
	case kind == "mod" && fixed:
		q, err := a.goAsk(escaped, "@v/"+file, fixedAge, maxGoMod)
		if err != nil {
			return err
		}
		return a.pass(q)
	case kind == "zip" && fixed:
		return a.goZip(v, escaped, number)
	}
	return &upstreamError{http.StatusNotFound, "this is no path of the module proxy protocol"}
}

func (a answer) goAsk(escaped, file string, age time.Duration, limit int64) (ask, error) {
	u, err := a.up.at((&url.URL{Path: escaped + "/" + file}).EscapedPath())
	return ask{up: a.up, url: u, age: age, limit: limit}, err
}

// goInfo asks for the date of a version: that of its commit, which is all that proxies know.
func (a answer) goInfo(ctx context.Context, escaped, number string) (goInfo, error) {
	q, err := a.goAsk(escaped, "@v/"+number+".info", fixedAge, maxGoInfo)
	if err != nil {
		return goInfo{}, err
	}
	raw, _, err := a.j.f.bytes(ctx, q)
	if err != nil {
		return goInfo{}, err
	}
	return parseGoInfo(raw)
}

func parseGoInfo(raw []byte) (goInfo, error) {
	var i goInfo
	if err := json.Unmarshal(raw, &i); err != nil {
		return goInfo{}, &upstreamError{http.StatusBadGateway, "the registry's word on a version is malformed"}
	}
	return i, nil
}

// goZipAsk asks for a version's archive, which must be one of a module.
func (a answer) goZipAsk(v version, escaped, number string) (ask, error) {
	q, err := a.goAsk(escaped, "@v/"+number+".zip", -1, maxGoZip)
	q.file = true
	mod := module.Version{Path: v.name, Version: v.version}
	q.check = func(n *note, path string) error {
		sum, err := hashModule(mod, path)
		if err != nil {
			return &refusal{v, "its archive is not one of a module: " + printable(err.Error(), 200)}
		}
		n.Sums["h1"] = sum
		return nil
	}
	return q, err
}

func (a answer) goZip(v version, escaped, number string) error {
	q, err := a.goZipAsk(v, escaped, number)
	if err != nil {
		return err
	}
	mod := module.Version{Path: v.name, Version: v.version}
	return a.hand(v, q, func(ctx context.Context) (version, map[string][]string, error) {
		var info goInfo
		var infoErr, sumErr error
		var sums []string
		var wait sync.WaitGroup
		wait.Go(func() { info, infoErr = a.goInfo(ctx, escaped, number) })
		wait.Go(func() { sums, sumErr = a.j.f.sums.of(ctx, a.up, mod) })
		wait.Wait()
		if infoErr != nil {
			return v, nil, infoErr
		}
		if sumErr != nil {
			return v, nil, sumErr
		}
		v.published = info.Time
		v.created = func() time.Time { return a.goCreated(ctx, escaped) }
		if sums == nil { // no database knows it; the go command compares it with go.sum
			return v, nil, nil
		}
		return v, map[string][]string{"h1": sums}, nil
	})
}

// hashModule checks that an archive is one of the module, within its bounds, and sums it up.
func hashModule(m module.Version, path string) (string, error) {
	if _, err := modzip.CheckZip(m, path); err != nil {
		return "", err
	}
	z, err := zip.OpenReader(path) // what unpacks to more than it says fails there
	if err != nil {
		return "", err
	}
	z.Close()
	return dirhash.HashZip(path, dirhash.Hash1)
}

// goCreated is the date of the oldest version that the proxy lists.
func (a answer) goCreated(ctx context.Context, escaped string) time.Time {
	list, err := a.goVersions(ctx, escaped)
	if err != nil || len(list) == 0 {
		return time.Time{}
	}
	number, err := module.EscapeVersion(list[len(list)-1])
	if err != nil {
		return time.Time{}
	}
	info, _ := a.goInfo(ctx, escaped, number) // not known: the zero time
	return info.Time
}

// goVersions returns the versions that the proxy lists, the newest first.
func (a answer) goVersions(ctx context.Context, escaped string) ([]string, error) {
	q, err := a.goAsk(escaped, "@v/list", pageAge, maxGoList)
	if err != nil {
		return nil, err
	}
	raw, _, err := a.j.f.bytes(ctx, q)
	if err != nil {
		return nil, err
	}
	return parseGoList(raw)
}

func parseGoList(raw []byte) ([]string, error) {
	var out []string
	for line := range bytes.Lines(raw) {
		v := string(bytes.TrimSpace(line))
		if !semver.IsValid(v) || len(v) > 256 {
			continue
		}
		if out = append(out, v); len(out) > maxGoVersions {
			return nil, &upstreamError{http.StatusBadGateway, "the registry lists too many versions"}
		}
	}
	slices.SortFunc(out, func(a, b string) int { return semver.Compare(b, a) })
	return out, nil
}

// goList answers which versions there are, without those that the job could not have: the go command then
// chooses the newest that it can have.
func (a answer) goList(v version, escaped string) error {
	list, err := a.goVersions(a.r.Context(), escaped)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(number string) bool {
		v := v
		v.version = number
		return a.j.known(v) != nil
	})
	for n := 0; a.j.minAge > 0 && n < maxAsked && len(list) > 1; n++ {
		v.version = list[0]
		number, err := module.EscapeVersion(v.version)
		if err != nil {
			break
		}
		info, err := a.goInfo(a.r.Context(), escaped, number)
		if err != nil { // the archive is judged when it is asked for
			break
		}
		if v.published = info.Time; !a.j.tooYoung(v) {
			break
		}
		list = list[1:]
	}
	var b bytes.Buffer
	for _, number := range slices.Backward(list) {
		b.WriteString(number + "\n")
	}
	return a.text("text/plain; charset=utf-8", b.Bytes())
}

func (a answer) goLatest(v version, escaped string) error {
	q, err := a.goAsk(escaped, "@latest", pageAge, maxGoInfo)
	if err != nil {
		return err
	}
	raw, _, err := a.j.f.bytes(a.r.Context(), q)
	if err != nil {
		return err
	}
	info, err := parseGoInfo(raw)
	if err != nil {
		return err
	}
	v.version, v.published = info.Version, info.Time
	if r := a.j.known(v); r != nil {
		return r
	}
	if a.j.tooYoung(v) {
		return a.j.young(v)
	}
	return a.text("application/json", raw)
}
