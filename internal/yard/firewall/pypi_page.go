package firewall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Bounds of a project's page.
const (
	maxFiles  = 200_000
	maxURL    = 2048
	maxReason = 1000
)

// project is a page of the simple repository API.
type project struct {
	name    string
	files   []projectFile
	created time.Time // the date of the oldest file; zero if one has none
	dated   map[string]time.Time
}

type projectFile struct {
	name     string
	version  string
	url      *url.URL
	hashes   map[string][]string
	python   string // the versions of Python that it is for
	yanked   string // why; "" if it is not
	size     int64
	uploaded time.Time
	metadata map[string][]string // hashes of the metadata beside it; nil: there is none
}

// parseProject reads a page, in whichever form the registry has.
func parseProject(raw []byte, kind, name string, at *url.URL) (*project, error) {
	p := &project{name: name, dated: map[string]time.Time{}}
	media, _, _ := mime.ParseMediaType(kind)
	var err error
	if media == simpleJSON || media == "application/json" {
		err = p.readJSON(raw, at)
	} else {
		err = p.readHTML(raw, at)
	}
	if err != nil {
		return nil, err
	}
	all := true
	for _, f := range p.files {
		if f.uploaded.IsZero() {
			all = false
			continue
		}
		if p.created.IsZero() || f.uploaded.Before(p.created) {
			p.created = f.uploaded
		}
		if f.uploaded.After(p.dated[f.version]) { // a version is as young as its youngest file
			p.dated[f.version] = f.uploaded
		}
	}
	if !all {
		p.created = time.Time{}
	}
	return p, nil
}

// add keeps a file that is one of the project.
func (p *project) add(f projectFile, address string, at *url.URL) error {
	if len(address) > maxURL || len(f.name) > maxURL {
		return errors.New("a file has too long an address")
	}
	u, err := at.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return fmt.Errorf("%.100q is no address of a file", f.name)
	}
	u.Fragment, u.RawFragment, u.RawQuery = "", "", ""
	f.url = u
	name, number, ok := splitFile(f.name)
	if !ok || name != p.name { // signatures, eggs, installers: pip takes none of them
		return nil
	}
	f.version = number
	if len(p.files) >= maxFiles {
		return errors.New("it names too many files")
	}
	p.files = append(p.files, f)
	return nil
}

// simplePage is the page as JSON (PEP 691, PEP 700, PEP 714).
type simplePage struct {
	Meta struct {
		Version string `json:"api-version"`
	} `json:"meta"`
	Name     string       `json:"name"`
	Versions []string     `json:"versions,omitempty"`
	Files    []simpleFile `json:"files"`
}

type simpleFile struct {
	Filename string            `json:"filename"`
	URL      string            `json:"url"`
	Hashes   map[string]string `json:"hashes"`
	Python   string            `json:"requires-python,omitempty"`
	Yanked   any               `json:"yanked,omitempty"`
	Size     int64             `json:"size,omitempty"`
	Uploaded string            `json:"upload-time,omitempty"`
	Core     any               `json:"core-metadata,omitempty"`
	DistInfo any               `json:"data-dist-info-metadata,omitempty"`
}

func (p *project) readJSON(raw []byte, at *url.URL) error {
	var doc simplePage
	if err := json.Unmarshal(raw, &doc); err != nil {
		return errors.New("it is no JSON of a project")
	}
	for _, f := range doc.Files {
		one := projectFile{name: f.Filename, hashes: hashesOf(f.Hashes), python: f.Python, size: f.Size, uploaded: moment(f.Uploaded)}
		switch y := f.Yanked.(type) {
		case bool:
			if y {
				one.yanked = "no reason is given"
			}
		case string:
			if one.yanked = y[:min(len(y), maxReason)]; y == "" {
				one.yanked = "no reason is given"
			}
		}
		for _, m := range []any{f.Core, f.DistInfo} {
			if sums, ok := m.(map[string]any); ok && one.metadata == nil {
				text := map[string]string{}
				for k, v := range sums {
					if s, ok := v.(string); ok {
						text[k] = s
					}
				}
				one.metadata = hashesOf(text)
			}
		}
		if err := p.add(one, f.URL, at); err != nil {
			return err
		}
	}
	return nil
}

// hashesOf takes the checksums that are computed here.
func hashesOf(in map[string]string) map[string][]string {
	out := map[string][]string{}
	for _, algorithm := range []string{"sha256", "sha512"} {
		if sum := strings.ToLower(in[algorithm]); sum != "" {
			out[algorithm] = []string{sum}
		}
	}
	return out
}

// readHTML reads the anchors of a page (PEP 503). The rest of it says nothing.
func (p *project) readHTML(raw []byte, at *url.URL) error {
	text := string(raw)
	for {
		i := strings.IndexByte(text, '<')
		if i < 0 {
			return nil
		}
		text = text[i+1:]
		if strings.HasPrefix(text, "!--") {
			end := strings.Index(text, "-->")
			if end < 0 {
				return nil
			}
			text = text[end+3:]
			continue
		}
		tag, attributes, rest := readTag(text)
		text = rest
		switch tag {
		case "base":
			if u, err := at.Parse(attributes["href"]); err == nil && u.Host != "" {
				at = u
			}
		case "a":
			end := strings.IndexByte(text, '<')
			if end < 0 {
				return errors.New("an anchor does not end")
			}
			if err := p.addAnchor(strings.TrimSpace(html.UnescapeString(text[:end])), attributes, at); err != nil {
				return err
			}
		}
	}
}

func (p *project) addAnchor(name string, attributes map[string]string, at *url.URL) error {
	address, fragment, _ := strings.Cut(attributes["href"], "#")
	f := projectFile{name: name, hashes: hashesOf(pair(fragment)), python: attributes["data-requires-python"]}
	if reason, ok := attributes["data-yanked"]; ok {
		if f.yanked = reason[:min(len(reason), maxReason)]; reason == "" {
			f.yanked = "no reason is given"
		}
	}
	for _, key := range []string{"data-core-metadata", "data-dist-info-metadata"} {
		if sum, ok := attributes[key]; ok && f.metadata == nil && strings.Contains(sum, "=") {
			f.metadata = hashesOf(pair(sum))
		}
	}
	return p.add(f, address, at)
}

// pair reads ALGORITHM=HEX.
func pair(s string) map[string]string {
	algorithm, sum, _ := strings.Cut(s, "=")
	return map[string]string{algorithm: sum}
}

// readTag reads a tag's name and attributes, up to its closing bracket.
func readTag(text string) (tag string, attributes map[string]string, rest string) {
	attributes = map[string]string{}
	end := strings.IndexAny(text, " \t\r\n>/")
	if end < 0 {
		return "", attributes, ""
	}
	tag, text = strings.ToLower(text[:end]), text[end:]
	for len(attributes) < 32 {
		text = strings.TrimLeft(text, " \t\r\n/")
		if text == "" || text[0] == '>' {
			break
		}
		end := strings.IndexAny(text, " \t\r\n>=")
		if end < 0 {
			return tag, attributes, ""
		}
		key, value := strings.ToLower(text[:end]), ""
		text = strings.TrimLeft(text[end:], " \t\r\n")
		if rest, ok := strings.CutPrefix(text, "="); ok {
			text = strings.TrimLeft(rest, " \t\r\n")
			stop := " \t\r\n>"
			if text != "" && (text[0] == '"' || text[0] == '\'') {
				stop, text = text[:1], text[1:]
			}
			end := strings.IndexAny(text, stop)
			if end < 0 {
				return tag, attributes, ""
			}
			value, text = html.UnescapeString(text[:end]), text[end:]
			if stop == `"` || stop == "'" {
				text = text[1:]
			}
		}
		if _, twice := attributes[key]; !twice && key != "" {
			attributes[key] = value
		}
		if key == "" { // a stray equals sign
			text = text[min(1, len(text)):]
		}
	}
	end = strings.IndexByte(text, '>')
	if end < 0 {
		return tag, attributes, ""
	}
	return tag, attributes, text[end+1:]
}

// of completes v by what the page says.
func (p *project) of(v version) version {
	v.published = p.dated[v.version]
	v.created = func() time.Time { return p.created }
	return v
}

// without returns the page without the files of some versions.
func (p *project) without(hide func(version string) bool) *project {
	verdicts := map[string]bool{}
	shown := &project{name: p.name}
	for _, f := range p.files {
		bad, ok := verdicts[f.version]
		if !ok {
			bad = hide(f.version)
			verdicts[f.version] = bad
		}
		if !bad {
			shown.files = append(shown.files, f)
		}
	}
	return shown
}

func (p *project) json() []byte {
	doc := simplePage{Name: p.name, Files: []simpleFile{}}
	doc.Meta.Version = "1.0"
	for _, f := range p.files {
		one := simpleFile{Filename: f.name, URL: f.url.String(), Hashes: first(f.hashes), Python: f.python, Size: f.size}
		if f.yanked != "" {
			one.Yanked = f.yanked
		}
		if !f.uploaded.IsZero() {
			one.Uploaded = f.uploaded.UTC().Format("2006-01-02T15:04:05.000000Z")
		}
		if len(f.metadata) > 0 {
			one.Core = first(f.metadata)
			one.DistInfo = one.Core
		}
		doc.Files = append(doc.Files, one)
		if !slices.Contains(doc.Versions[max(0, len(doc.Versions)-1):], f.version) {
			doc.Versions = append(doc.Versions, f.version)
		}
	}
	slices.Sort(doc.Versions)
	doc.Versions = slices.Compact(doc.Versions)
	if slices.ContainsFunc(p.files, func(f projectFile) bool { return f.size > 0 }) {
		doc.Meta.Version = "1.1" // which promises sizes and versions
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		panic(err) // strings and numbers
	}
	return raw
}

func first(sums map[string][]string) map[string]string {
	out := map[string]string{}
	for algorithm, s := range sums {
		out[algorithm] = s[0]
	}
	return out
}

func (p *project) html() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html><head><meta name=\"pypi:repository-version\" content=\"1.0\"><title>Links for %s</title></head><body>\n", html.EscapeString(p.name))
	for _, f := range p.files {
		href := f.url.String()
		for _, algorithm := range []string{"sha256", "sha512"} {
			if sums := f.hashes[algorithm]; len(sums) > 0 {
				href += "#" + algorithm + "=" + sums[0]
				break
			}
		}
		fmt.Fprintf(&b, `<a href="%s"`, html.EscapeString(href))
		if f.python != "" {
			fmt.Fprintf(&b, ` data-requires-python="%s"`, html.EscapeString(f.python))
		}
		if f.yanked != "" {
			fmt.Fprintf(&b, ` data-yanked="%s"`, html.EscapeString(f.yanked))
		}
		if sums := f.metadata["sha256"]; len(sums) > 0 {
			fmt.Fprintf(&b, ` data-core-metadata="sha256=%[1]s" data-dist-info-metadata="sha256=%[1]s"`, html.EscapeString(sums[0]))
		}
		fmt.Fprintf(&b, ">%s</a><br>\n", html.EscapeString(f.name))
	}
	b.WriteString("</body></html>\n")
	return b.Bytes()
}

// readAll reads content that is bounded already.
func readAll(c *content) ([]byte, error) { return io.ReadAll(c) }
