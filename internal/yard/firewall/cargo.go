package firewall

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Bounds of cargo's index.
const (
	maxCrateName     = 64 // the public registry's own
	maxCrateLine     = 1 << 20
	maxCrateVersions = 100_000
)

var crateName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

// crateVersion is a line of the index.
type crateVersion struct {
	Name      string `json:"name"`
	Version   string `json:"vers"`
	Checksum  string `json:"cksum"`
	Yanked    bool   `json:"yanked"`
	Published string `json:"pubtime"`
	line      []byte
}

// cargo answers a sparse index (doc.rust-lang.org/cargo, "Registry Index").
func (a answer) cargo(rest string) error {
	if rest == "config.json" {
		u, _, err := a.crateConfig(a.r.Context())
		if err != nil {
			return err
		}
		return a.pass(page(a.up, u, "", pageAge))
	}
	name := rest[strings.LastIndexByte(rest, '/')+1:]
	if len(name) > maxCrateName || !crateName.MatchString(name) || rest != indexPath(strings.ToLower(name)) {
		return a.crate(rest)
	}
	v := version{kind: KindCargo, name: name}
	if r := a.j.known(v); r != nil {
		return r
	}
	list, created, err := a.crateVersions(a.r.Context(), name, pageAge)
	if err != nil {
		return err
	}
	v.created = func() time.Time { return created }
	if r := a.j.judge(v); r != nil {
		return r
	}
	var b bytes.Buffer
	for _, c := range list {
		v.version, v.published = c.Version, moment(c.Published)
		if !a.j.tooYoung(v) && a.j.known(v) == nil {
			b.Write(c.line)
			b.WriteByte('\n')
		}
	}
	if b.Len() == 0 && len(list) > 0 { // all of them; one stands for all
		if r := a.j.judge(v); r != nil {
			return r
		}
	}
	return a.text("text/plain", b.Bytes())
}

// indexPath is where the index keeps a crate.
func indexPath(name string) string {
	switch n := len(name); n {
	case 1, 2:
		return fmt.Sprintf("%d/%s", n, name)
	case 3:
		return fmt.Sprintf("3/%s/%s", name[:1], name)
	default:
		return fmt.Sprintf("%s/%s/%s", name[:2], name[2:4], name)
	}
}

// crateVersions returns the lines of a crate, and when its oldest version was published.
func (a answer) crateVersions(ctx context.Context, name string, age time.Duration) ([]crateVersion, time.Time, error) {
	u, err := a.up.at(indexPath(strings.ToLower(name)))
	if err != nil {
		return nil, time.Time{}, err
	}
	raw, _, err := a.j.f.bytes(ctx, page(a.up, u, "", age))
	if err != nil {
		return nil, time.Time{}, err
	}
	list, err := parseCrate(raw, name)
	if err != nil {
		return nil, time.Time{}, &upstreamError{http.StatusBadGateway, fmt.Sprintf("the registry's index of %s is malformed: %v", printable(name, 64), err)}
	}
	created := time.Time{}
	if len(list) > 0 { // lines are appended
		created = moment(list[0].Published)
	}
	return list, created, nil
}

func parseCrate(raw []byte, name string) ([]crateVersion, error) {
	var out []crateVersion
	for line := range bytes.Lines(raw) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if len(line) > maxCrateLine || len(out) >= maxCrateVersions {
			return nil, fmt.Errorf("it is too large")
		}
		c := crateVersion{line: line}
		if err := json.Unmarshal(line, &c); err != nil {
			return nil, fmt.Errorf("line %d is no JSON of a version", len(out)+1)
		}
		if !strings.EqualFold(c.Name, name) || c.Version == "" || len(c.Version) > 256 {
			return nil, fmt.Errorf("line %d is not of this crate", len(out)+1)
		}
		out = append(out, c)
	}
	return out, nil
}

// crateConfig returns where archives lie.
func (a answer) crateConfig(ctx context.Context) (*url.URL, *regexp.Regexp, error) {
	u, err := a.up.at("config.json")
	if err != nil {
		return nil, nil, err
	}
	raw, _, err := a.j.f.bytes(ctx, page(a.up, u, "", pageAge))
	if err != nil {
		return nil, nil, err
	}
	scheme, host, places, err := parseCrateConfig(raw)
	if err != nil {
		return nil, nil, &upstreamError{http.StatusBadGateway, fmt.Sprintf("the registry's config.json is malformed: %v", err)}
	}
	a.j.f.learn(a.up, scheme, host)
	return u, places, nil
}

// parseCrateConfig returns the host of archives, and what their paths look like.
func parseCrateConfig(raw []byte) (scheme, host string, places *regexp.Regexp, err error) {
	var doc struct {
		DL string `json:"dl"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil || doc.DL == "" || len(doc.DL) > maxURL {
		return "", "", nil, fmt.Errorf("it names no place of archives")
	}
	if !strings.Contains(doc.DL, "{") {
		doc.DL = strings.TrimRight(doc.DL, "/") + "/{crate}/{version}/download"
	}
	proto, rest, _ := strings.Cut(doc.DL, "://")
	host, path, _ := strings.Cut(rest, "/")
	if proto != "https" && proto != "http" || host == "" || strings.ContainsAny(host, "{}@") {
		return "", "", nil, fmt.Errorf("its archives have no host")
	}
	pattern := regexp.QuoteMeta(path)
	seen := map[string]bool{}
	for marker, what := range map[string]string{
		"crate": `(?P<crate>[A-Za-z0-9_-]+)`, "version": `(?P<version>[0-9A-Za-z.+-]+)`, "prefix": `[A-Za-z0-9_/-]+`,
		"lowerprefix": `[a-z0-9_/-]+`, "sha256-checksum": `[0-9a-f]{64}`,
	} {
		quoted := regexp.QuoteMeta("{" + marker + "}")
		if marker == "crate" || marker == "version" {
			seen[marker] = strings.Contains(pattern, quoted)
			again := strings.Replace(what, "?P<"+marker+">", "", 1) // a name may stand twice; the first counts
			if i := strings.Index(pattern, quoted); i >= 0 {
				pattern = pattern[:i] + what + strings.ReplaceAll(pattern[i+len(quoted):], quoted, again)
			}
			continue
		}
		pattern = strings.ReplaceAll(pattern, quoted, what)
	}
	if !seen["crate"] || !seen["version"] {
		return "", "", nil, fmt.Errorf("its archives' places do not tell crate and version")
	}
	places, err = regexp.Compile("^" + pattern + "$")
	return proto, host, places, err
}

// crate hands out an archive.
func (a answer) crate(rest string) error {
	registry := a
	if a.up.of != nil {
		registry.up = a.up.of
	}
	_, places, err := registry.crateConfig(a.r.Context())
	if err != nil {
		return err
	}
	u, err := a.up.at(rest)
	if err != nil {
		return err
	}
	m := places.FindStringSubmatch(strings.TrimPrefix(u.Path, "/"))
	if m == nil {
		return &upstreamError{http.StatusNotFound, "this is no path of a crate"}
	}
	v := version{kind: KindCargo, name: m[places.SubexpIndex("crate")], version: m[places.SubexpIndex("version")]}
	q := ask{up: a.up, url: u, limit: maxFile}
	return a.hand(v, q, func(ctx context.Context) (version, map[string][]string, error) {
		age := factsAge
		if _, cached := a.j.f.cache.look(q.key()); !cached {
			age = pageAge
		}
		list, created, err := registry.crateVersions(ctx, v.name, age)
		if err != nil {
			return v, nil, err
		}
		v.created = func() time.Time { return created }
		for _, c := range list {
			if c.Version != v.version || c.Name != v.name {
				continue
			}
			if v.published = moment(c.Published); c.Yanked {
				v.withdrawn = "it is yanked"
			}
			return v, map[string][]string{"sha256": {strings.ToLower(c.Checksum)}}, nil
		}
		return v, nil, &upstreamError{http.StatusNotFound, fmt.Sprintf("the registry's index of %s does not name this version", printable(v.name, 64))}
	})
}
