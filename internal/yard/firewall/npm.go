package firewall

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// Bounds of npm's documents.
const (
	maxNPMName     = 214 // the registry's own
	maxNPMVersions = 200_000
)

// abbreviated is the short form of a packument, which clients ask for to install.
const abbreviated = "application/vnd.npm.install-v1+json"

// fullPackument is how the long form is asked for, which alone says when versions were published.
const fullPackument = "application/json"

var npmName = regexp.MustCompile(`^(@[A-Za-z0-9~-][A-Za-z0-9._~-]*/)?[A-Za-z0-9~_-][A-Za-z0-9._~!*'()-]*$`)

// packument is what is read of npm's document about a package.
type packument struct {
	Name     string                     `json:"name"`
	Modified string                     `json:"modified"`
	Time     map[string]json.RawMessage `json:"time"`
	Versions map[string]packageVersion  `json:"versions"`
}

type packageVersion struct {
	Deprecated any `json:"deprecated"`
	Dist       struct {
		Integrity string `json:"integrity"`
		Shasum    string `json:"shasum"`
		Tarball   string `json:"tarball"`
	} `json:"dist"`
}

// npmFacts is what is kept of it.
type npmFacts struct {
	modified, created time.Time
	timed             bool // it says when versions were published
	versions          map[string]npmVersion
}

type npmVersion struct {
	published  time.Time
	deprecated string
	integrity  string
	shasum     string
	tarball    string
}

// npm answers the part of npm's registry API that installing needs.
func (a answer) npm(rest string) error {
	path, err := url.PathUnescape(rest)
	if err != nil || strings.Contains(path, "//") {
		return &upstreamError{http.StatusBadRequest, "the path is malformed"}
	}
	if path == "-/npm/v1/keys" || path == "-/ping" {
		u, err := a.up.at(path)
		if err != nil {
			return err
		}
		return a.pass(page(a.up, u, fullPackument, pageAge))
	}
	name, tail, _ := strings.Cut(path, "/")
	if strings.HasPrefix(name, "@") {
		var second string
		second, tail, _ = strings.Cut(tail, "/")
		name += "/" + second
	}
	if len(name) > maxNPMName || !npmName.MatchString(name) || strings.HasPrefix(path, "-/") {
		return &upstreamError{http.StatusNotFound, "this is no path of a package; others of the registry are not served here"}
	}
	v := version{kind: KindNPM, name: name}
	if r := a.j.known(v); r != nil {
		return r
	}
	switch file, ok := strings.CutPrefix(tail, "-/"); {
	case tail == "":
		return a.npmPackument(v)
	case ok:
		return a.npmTarball(v, rest, file)
	case !strings.Contains(tail, "/"):
		return a.npmManifest(v, tail)
	}
	if found, ok := a.j.f.npmAt(a.up, rest); ok { // a registry with addresses of its own
		v.name, v.version = found.name, found.version
		return a.npmFile(v, rest)
	}
	return &upstreamError{http.StatusNotFound, "this is no path of a package that this registry has told of"}
}

func (a answer) npmAsk(name, accept string, age time.Duration) (ask, error) {
	u, err := a.up.at(strings.Replace(name, "/", "%2f", 1))
	return page(a.up, u, accept, age), err
}

// npmFacts returns what the registry says of all versions of a package, with their dates when it tells them.
func (a answer) npmFacts(ctx context.Context, name string, age time.Duration) (*npmFacts, error) {
	q, err := a.npmAsk(name, abbreviated, age)
	if err != nil {
		return nil, err
	}
	facts, err := a.npmRead(ctx, q, name)
	if err != nil || facts.timed {
		return facts, err
	}
	// No version is younger than the last change, and most packages have not changed for long. The long form is needed
	// for the others.
	if old := a.j.f.now().Sub(facts.modified); !facts.modified.IsZero() && old >= a.j.minAge && (old >= youngName || a.j.f.lookalikes[KindNPM].of(name) == "") {
		return facts, nil
	}
	if q, err = a.npmAsk(name, fullPackument, age); err != nil {
		return nil, err
	}
	return a.npmRead(ctx, q, name)
}

// npmRead parses an answer, once for as long as it stays the same.
func (a answer) npmRead(ctx context.Context, q ask, name string) (*npmFacts, error) {
	c, _, err := a.j.f.get(ctx, q)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	key := "npm " + name + " " + string(c.note.Digest)
	facts, err := a.j.f.fact(key, func() (any, error) {
		return a.j.f.parsing(ctx, func() (any, error) {
			raw, err := readAll(c)
			if err != nil {
				return nil, err
			}
			return parsePackument(raw, name)
		})
	})
	if err != nil {
		return nil, err
	}
	got := facts.(*npmFacts)
	a.learnTarballs(name, got)
	return got, nil
}

func parsePackument(raw []byte, name string) (*npmFacts, error) {
	var p packument
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, &upstreamError{http.StatusBadGateway, fmt.Sprintf("the registry's document about %s is malformed", printable(name, 100))}
	}
	if p.Name != "" && !strings.EqualFold(p.Name, name) {
		return nil, &upstreamError{http.StatusBadGateway, fmt.Sprintf("the registry's document about %s is of another package", printable(name, 100))}
	}
	if len(p.Versions) > maxNPMVersions || len(p.Time) > 2*maxNPMVersions {
		return nil, &upstreamError{http.StatusBadGateway, fmt.Sprintf("the registry names too many versions of %s", printable(name, 100))}
	}
	out := &npmFacts{modified: moment(p.Modified), timed: len(p.Time) > 0, versions: make(map[string]npmVersion, len(p.Versions))}
	at := func(key string) time.Time {
		var s string
		if json.Unmarshal(p.Time[key], &s) != nil { // some are objects, of versions that were taken back
			return time.Time{}
		}
		return moment(s)
	}
	out.created = at("created")
	if m := at("modified"); !m.IsZero() {
		out.modified = m
	}
	for number, v := range p.Versions {
		if len(number) > 256 {
			continue
		}
		deprecated, _ := v.Deprecated.(string)
		out.versions[number] = npmVersion{
			published: at(number), deprecated: printable(deprecated, 300),
			integrity: v.Dist.Integrity, shasum: v.Dist.Shasum, tarball: v.Dist.Tarball,
		}
	}
	return out, nil
}

// moment reads a time as registries write it; the zero time is none.
func moment(s string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	return time.Time{}
}

// of completes v by what the registry says of it.
func (p *npmFacts) of(v version) version {
	n := p.versions[v.version]
	v.published = n.published
	if v.published.IsZero() && !p.timed { // no version is younger than the last change of all
		v.published = p.modified
	}
	v.created = func() time.Time { return p.created }
	if !p.timed {
		v.created = func() time.Time { return p.modified }
	}
	if v.version == "0.0.1-security" {
		v.withdrawn = "the registry holds the name of a package that it removed"
	} else if tellsHarm(n.deprecated) {
		v.withdrawn = n.deprecated
	}
	return v
}

// tellsHarm reports whether a note of deprecation says that the version does harm; most say that
// there is a newer one.
func tellsHarm(s string) bool {
	s = strings.ToLower(s)
	for _, word := range []string{"malicious", "malware", "compromised", "hijacked", "backdoor", "supply chain attack", "supply-chain attack"} {
		if strings.Contains(s, word) {
			return true
		}
	}
	return false
}

// npmPackument answers which versions there are, without those that are too young: npm then takes the
// newest that the job may have.
func (a answer) npmPackument(v version) error {
	accept := fullPackument
	if strings.Contains(a.r.Header.Get("Accept"), abbreviated) {
		accept = abbreviated
	}
	facts, err := a.npmFacts(a.r.Context(), v.name, pageAge)
	if err != nil {
		return a.j.gone(v, err)
	}
	if r := a.j.judge(facts.of(v)); r != nil {
		return r
	}
	q, err := a.npmAsk(v.name, accept, pageAge)
	if err != nil {
		return err
	}
	hide := map[string]bool{}
	for number := range facts.versions {
		v.version = number
		if a.j.tooYoung(facts.of(v)) || a.j.known(v) != nil {
			hide[number] = true
		}
	}
	if len(hide) == 0 {
		return a.pass(q)
	}
	c, _, err := a.j.f.get(a.r.Context(), q)
	if err != nil {
		return err
	}
	defer c.Close()
	left, err := a.j.f.parsing(a.r.Context(), func() (any, error) {
		raw, err := readAll(c)
		if err != nil {
			return nil, err
		}
		return without(raw, hide)
	})
	if err != nil {
		return err
	}
	shown := left.([]byte)
	if shown == nil { // all of them; one stands for all
		for number := range hide {
			v.version = number
			if r := a.j.judge(facts.of(v)); r != nil {
				return r
			}
		}
	}
	kind := c.note.Type
	if kind == "" {
		kind = fullPackument
	}
	return a.text(kind, shown)
}

// without takes versions out of a packument, nil when none remains. Tags that name one of them move to the
// newest of the others, or go.
func without(raw []byte, hide map[string]bool) ([]byte, error) {
	malformed := &upstreamError{http.StatusBadGateway, "the registry's document is malformed"}
	var doc, versions, times map[string]json.RawMessage
	var tags map[string]string
	if json.Unmarshal(raw, &doc) != nil || json.Unmarshal(doc["versions"], &versions) != nil {
		return nil, malformed
	}
	for number := range hide {
		delete(versions, number)
	}
	if len(versions) == 0 {
		return nil, nil
	}
	if doc["time"] != nil {
		if json.Unmarshal(doc["time"], &times) != nil {
			return nil, malformed
		}
		for number := range hide {
			delete(times, number)
		}
	}
	if doc["dist-tags"] != nil && json.Unmarshal(doc["dist-tags"], &tags) != nil {
		return nil, malformed
	}
	for tag, number := range tags {
		if _, ok := versions[number]; ok {
			continue
		}
		delete(tags, tag)
		if newest := newestOf(versions); tag == "latest" && newest != "" {
			tags[tag] = newest
		}
	}
	for key, value := range map[string]any{"versions": versions, "time": times, "dist-tags": tags} {
		if doc[key] == nil {
			continue
		}
		part, err := json.Marshal(value)
		if err != nil {
			return nil, malformed
		}
		doc[key] = part
	}
	return json.Marshal(doc)
}

// npmManifest answers with what the packument says of one version or tag.
func (a answer) npmManifest(v version, which string) error {
	facts, err := a.npmFacts(a.r.Context(), v.name, pageAge)
	if err != nil {
		return err
	}
	q, err := a.npmAsk(v.name, fullPackument, pageAge)
	if err != nil {
		return err
	}
	c, _, err := a.j.f.get(a.r.Context(), q)
	if err != nil {
		return err
	}
	defer c.Close()
	var doc struct {
		Tags     map[string]string          `json:"dist-tags"`
		Versions map[string]json.RawMessage `json:"versions"`
	}
	if _, err := a.j.f.parsing(a.r.Context(), func() (any, error) {
		raw, err := readAll(c)
		if err != nil {
			return nil, err
		}
		if json.Unmarshal(raw, &doc) != nil {
			return nil, &upstreamError{http.StatusBadGateway, "the registry's document is malformed"}
		}
		return nil, nil
	}); err != nil {
		return err
	}
	v.version = which
	if number, ok := doc.Tags[which]; ok {
		v.version = number
	}
	manifest, ok := doc.Versions[v.version]
	if !ok {
		return &upstreamError{http.StatusNotFound, fmt.Sprintf("there is no version %s of %s", printable(which, 50), v.name)}
	}
	said := facts.of(v)
	said.locked = a.j.isLocked(v)
	if r := a.j.judge(said); r != nil {
		return r
	}
	return a.text(fullPackument, manifest)
}

func (a answer) npmTarball(v version, rest, file string) error {
	base := v.name[strings.LastIndexByte(v.name, '/')+1:]
	number, ok := strings.CutPrefix(file, base+"-")
	if ok {
		v.version, ok = strings.CutSuffix(number, ".tgz")
	}
	if !ok {
		if found, known := a.j.f.npmAt(a.up, rest); known {
			v.version, ok = found.version, found.name == v.name
		}
	}
	if !ok || v.version == "" || len(v.version) > 256 || strings.Contains(v.version, "/") {
		return &upstreamError{http.StatusNotFound, "this is no path of a package's archive"}
	}
	return a.npmFile(v, rest)
}

// npmFile hands out the archive of v, which lies at rest.
func (a answer) npmFile(v version, rest string) error {
	u, err := a.up.at(rest)
	if err != nil {
		return err
	}
	registry := a
	if a.up.of != nil {
		registry.up = a.up.of
	}
	q := ask{up: a.up, url: u, limit: maxFile}
	return a.hand(v, q, func(ctx context.Context) (version, map[string][]string, error) {
		age := factsAge
		if _, cached := a.j.f.cache.look(q.key()); !cached {
			age = pageAge
		}
		facts, err := registry.npmFacts(ctx, v.name, age)
		if err != nil {
			return v, nil, err
		}
		n, ok := facts.versions[v.version]
		if !ok {
			return v, nil, &upstreamError{http.StatusNotFound, fmt.Sprintf("the registry knows no version %s of %s", printable(v.version, 50), v.name)}
		}
		if !sameFile(n.tarball, u) {
			return v, nil, &refusal{v, "its archive is asked for at another address than the registry states"}
		}
		want := map[string][]string{}
		if algorithm, sums := strongest(n.integrity); algorithm != "" {
			want[algorithm] = sums
		} else if n.shasum != "" {
			want["sha1"] = []string{strings.ToLower(n.shasum)}
		}
		return facts.of(v), want, nil
	})
}

// sameFile reports whether two addresses end in the same file; registries behind others state
// their own names.
func sameFile(stated string, asked *url.URL) bool {
	u, err := url.Parse(stated)
	if err != nil {
		return false
	}
	return u.Path[strings.LastIndexByte(u.Path, '/')+1:] == asked.Path[strings.LastIndexByte(asked.Path, '/')+1:]
}

// learnTarballs remembers where a registry keeps archives that its own addresses do not tell.
func (a answer) learnTarballs(name string, facts *npmFacts) {
	base := name[strings.LastIndexByte(name, '/')+1:]
	for number, n := range facts.versions {
		u, err := url.Parse(n.tarball)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			continue
		}
		if hostname(u.Host) != hostname(a.up.Base.Host) {
			a.j.f.learn(a.up, u.Scheme, u.Host)
		} else if strings.HasSuffix(u.Path, "/"+name+"/-/"+base+"-"+number+".tgz") {
			return // as all of them do
		}
		a.j.f.mu.Lock()
		a.j.f.places.Add(hostname(u.Host)+u.EscapedPath(), version{kind: KindNPM, name: name, version: number})
		a.j.f.mu.Unlock()
	}
}

// npmAt returns the version whose archive lies at rest.
func (f *Firewall) npmAt(up *Upstream, rest string) (version, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.places.Get(hostname(up.Base.Host) + up.Base.EscapedPath() + "/" + rest)
}

// newestOf returns the highest version that is no prerelease, of prereleases alone the highest of these.
func newestOf(versions map[string]json.RawMessage) string {
	best := ""
	better := func(v string) bool {
		a, b := "v"+v, "v"+best
		if best == "" || (semver.Prerelease(a) == "") != (semver.Prerelease(b) == "") {
			return best == "" || semver.Prerelease(a) == ""
		}
		return semver.Compare(a, b) > 0
	}
	for v := range versions {
		if semver.IsValid("v"+v) && better(v) {
			best = v
		}
	}
	return best
}
