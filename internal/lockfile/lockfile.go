// Package lockfile reads which package versions a project's lock files name, with their
// checksums. It is pure, and reads no more of a file than that; what it does not
// understand of one it leaves out, for a version that is not found is only judged more strictly.
//
// The engine reads those of the protected branch with it; the package firewall
// of the yard goes by what it finds.
package lockfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// Bounds of what is read.
const (
	MaxBytes    = 8 << 20 // of a file; the lock files of large monorepos have about as much
	maxPackages = 20_000  // of a file
	maxField    = 512
	maxLine     = 64 << 10
	maxNesting  = 64 // of npm's oldest form
)

// Names are the files that Parse knows.
func Names() []string {
	return []string{"go.sum", "package-lock.json", "npm-shrinkwrap.json", "requirements.txt", "Cargo.lock", "poetry.lock", "uv.lock"}
}

// Parse reads a lock file by its name. Versions without a checksum are left out: nothing
// would hold them to what was merged.
func Parse(name string, raw []byte) ([]sallyport.LockedPackage, error) {
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("%s has more than %d MiB", path.Base(name), MaxBytes>>20)
	}
	c := &collector{at: map[string]int{}}
	var err error
	switch base := path.Base(name); base {
	case "go.sum":
		err = c.goSum(raw)
	case "package-lock.json", "npm-shrinkwrap.json":
		err = c.npm(raw)
	case "requirements.txt":
		err = c.requirements(raw)
	case "Cargo.lock":
		err = c.toml(raw, "cargo")
	case "poetry.lock", "uv.lock":
		err = c.toml(raw, "pypi")
	default:
		return nil, fmt.Errorf("%s is no lock file that is known", base)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path.Base(name), err)
	}
	if len(c.out) > maxPackages {
		return nil, fmt.Errorf("%s names more than %d packages", path.Base(name), maxPackages)
	}
	return c.out, nil
}

type collector struct {
	out []sallyport.LockedPackage
	at  map[string]int
}

func (c *collector) add(kind, name, version string, sums ...string) {
	if name == "" || version == "" || len(sums) == 0 || len(name) > maxField || len(version) > maxField || len(c.out) > maxPackages {
		return
	}
	for _, s := range sums {
		if s == "" || len(s) > maxField {
			return
		}
	}
	purl := "pkg:" + kind + "/" + strings.Replace(name, "@", "%40", 1) + "@" + strings.ReplaceAll(version, "+", "%2B")
	i, ok := c.at[purl]
	if !ok {
		i = len(c.out)
		c.at[purl] = i
		c.out = append(c.out, sallyport.LockedPackage{PURL: purl})
	}
	c.out[i].Sums = append(c.out[i].Sums, sums...)
}

func lines(raw []byte) *bufio.Scanner {
	s := bufio.NewScanner(bytes.NewReader(raw))
	s.Buffer(nil, maxLine)
	return s
}

func (c *collector) goSum(raw []byte) error {
	l := lines(raw)
	for l.Scan() {
		f := strings.Fields(l.Text())
		if len(f) == 3 && !strings.HasSuffix(f[1], "/go.mod") && strings.HasPrefix(f[2], "h1:") {
			c.add("golang", f[0], f[1], f[2])
		}
	}
	return l.Err()
}

// npmEntry is a package of npm's lock file, in any of its forms.
type npmEntry struct {
	Name         string              `json:"name"`
	Version      string              `json:"version"`
	Integrity    string              `json:"integrity"`
	Dependencies map[string]npmEntry `json:"dependencies"`
}

func (c *collector) npm(raw []byte) error {
	var doc struct {
		Packages map[string]struct {
			Name      string `json:"name"`
			Version   string `json:"version"`
			Integrity string `json:"integrity"`
		} `json:"packages"`
		Dependencies map[string]npmEntry `json:"dependencies"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return fmt.Errorf("it is no JSON of a lock file")
	}
	for where, p := range doc.Packages {
		name := p.Name
		if i := strings.LastIndex(where, "node_modules/"); name == "" && i >= 0 {
			name = where[i+len("node_modules/"):]
		}
		c.add("npm", name, p.Version, strings.Fields(p.Integrity)...)
	}
	if doc.Packages == nil {
		c.npmOld(doc.Dependencies, 0)
	}
	return nil
}

func (c *collector) npmOld(deps map[string]npmEntry, depth int) {
	if depth > maxNesting {
		return
	}
	for name, d := range deps {
		c.add("npm", name, d.Version, strings.Fields(d.Integrity)...)
		c.npmOld(d.Dependencies, depth+1)
	}
}

func (c *collector) requirements(raw []byte) error {
	text := strings.ReplaceAll(string(raw), "\\\r\n", " ")
	l := lines([]byte(strings.ReplaceAll(text, "\\\n", " ")))
	for l.Scan() {
		line, _, _ := strings.Cut(l.Text(), " #")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		name, version, ok := strings.Cut(f[0], "==")
		name, _, _ = strings.Cut(name, "[")
		version, _, _ = strings.Cut(version, ";")
		if !ok || strings.ContainsAny(version, "*,=") {
			continue
		}
		var sums []string
		for _, word := range f[1:] {
			if sum, ok := strings.CutPrefix(word, "--hash="); ok {
				sums = append(sums, sum)
			}
		}
		c.add("pypi", normal(name), version, sums...)
	}
	return l.Err()
}

// toml reads the tables of packages that cargo, Poetry and uv write. They write them in one form, line by line.
func (c *collector) toml(raw []byte, kind string) error {
	var name, version string
	var sums []string
	end := func() {
		if kind == "pypi" {
			name = normal(name)
		}
		c.add(kind, name, version, sums...)
		name, version, sums = "", "", nil
	}
	l := lines(raw)
	inside := false
	for l.Scan() {
		line := strings.TrimSpace(l.Text())
		if strings.HasPrefix(line, "[[package]]") {
			end()
			inside = true
			continue
		}
		if strings.HasPrefix(line, "[") && !strings.HasPrefix(line, "[package.") && !strings.HasPrefix(line, "[[package.") {
			end()
			inside = false
			continue
		}
		if !inside {
			continue
		}
		key, value, _ := strings.Cut(line, " = ")
		switch {
		case key == "name" && name == "":
			name = strings.Trim(value, `"`)
		case key == "version" && version == "":
			version = strings.Trim(value, `"`)
		case key == "checksum":
			sums = append(sums, "sha256:"+strings.Trim(value, `"`))
		case strings.Contains(line, `hash = "sha256:`):
			_, sum, _ := strings.Cut(line, `hash = "`)
			sum, _, _ = strings.Cut(sum, `"`)
			sums = append(sums, sum)
		}
	}
	end()
	return l.Err()
}

// normal is a Python project's name as registries compare it.
func normal(name string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '-' || r == '_' || r == '.' }), "-")
}
