package firewall

import (
	"path"
	"slices"
	"strings"
)

// apt reads the archives of sources.list and its directory, in both of their forms.
func (d *discovery) apt() {
	for _, file := range append([]string{"/etc/apt/sources.list"}, d.list("/etc/apt/sources.list.d", ".list")...) {
		text, _ := d.read(file)
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(line, "#")
			f := strings.Fields(line)
			if len(f) == 0 || f[0] != "deb" {
				continue
			}
			f = f[1:]
			if len(f) > 0 && strings.HasPrefix(f[0], "[") {
				for len(f) > 0 && !strings.HasSuffix(f[0], "]") {
					f = f[1:]
				}
				f = f[min(1, len(f)):]
			}
			if len(f) >= 2 {
				d.archive(f[0], []string{f[1]}, f[2:], path.Base(file))
			}
		}
	}
	for _, file := range d.list("/etc/apt/sources.list.d", ".sources") {
		text, _ := d.read(file)
		for _, p := range paragraphs(text) {
			if strings.EqualFold(p["enabled"], "no") || !slices.Contains(strings.Fields(p["types"]), "deb") {
				continue
			}
			for _, uri := range strings.Fields(p["uris"]) {
				d.archive(uri, strings.Fields(p["suites"]), strings.Fields(p["components"]), path.Base(file))
			}
		}
	}
}

func (d *discovery) archive(uri string, suites, components []string, from string) {
	if !strings.HasPrefix(uri, "http://") && !strings.HasPrefix(uri, "https://") {
		d.note("%s: %s is no archive on a web server; jobs do not reach it", from, strings.SplitN(uri, ":", 2)[0])
		return
	}
	u := d.add(KindDebian, uri, from)
	if u == nil {
		return
	}
	for _, s := range suites {
		if strings.HasSuffix(s, "/") { // a flat one: it has no dists
			continue
		}
		if !slices.Contains(u.Suites, s) {
			u.Suites = append(u.Suites, s)
		}
	}
	for _, c := range components {
		if !slices.Contains(u.Components, c) {
			u.Components = append(u.Components, c)
		}
	}
}

// paragraphs reads deb822: fields by lower-case name, continued by indented lines.
func paragraphs(text string) []map[string]string {
	var out []map[string]string
	one, last := map[string]string{}, ""
	end := func() {
		if len(one) > 0 {
			out = append(out, one)
		}
		one, last = map[string]string{}, ""
	}
	for line := range strings.Lines(text) {
		switch bare := strings.TrimSpace(line); {
		case bare == "":
			end()
		case bare[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				one[last] += " " + bare
			}
		default:
			key, value, _ := strings.Cut(bare, ":")
			last = strings.ToLower(strings.TrimSpace(key))
			one[last] = strings.TrimSpace(value)
		}
	}
	end()
	return out
}
