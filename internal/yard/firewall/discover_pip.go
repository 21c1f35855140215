package firewall

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// pipDefault finds the index and the host of files that pip carries.
var pipDefault = regexp.MustCompile(`(?m)^PyPI = PackageIndex\(\s*"(https?://[^"]+)",\s*file_storage_domain="([a-z0-9.-]+)"`)

// pip reads pip's settings: the environment, the user's and the host's files, the default of the installed pip.
func (d *discovery) pip() {
	index, extra := d.h.Env("PIP_INDEX_URL"), d.h.Env("PIP_EXTRA_INDEX_URL")
	files := []string{d.configHome("pip/pip.conf"), d.home(".pip/pip.conf"), "/etc/pip.conf", "/etc/xdg/pip/pip.conf"}
	if f := d.h.Env("PIP_CONFIG_FILE"); f != "" {
		files = append([]string{f}, files...)
		if f == "/dev/null" {
			files = nil
		}
	}
	for _, file := range files {
		text, _ := d.read(file)
		one, more := pipSettings(text)
		if index == "" {
			index = one
		}
		if extra == "" {
			extra = more
		}
	}
	base, storage := d.pipDefault()
	if index == "" && base != "" {
		index = strings.TrimRight(base, "/") + "/simple"
	}
	if index != "" {
		u := d.add(KindPyPI, index, "pip's index")
		if u != nil && storage != "" && strings.HasPrefix(index, base) {
			u.Files = append(u.Files, storage)
		}
	}
	for _, one := range strings.Fields(extra) {
		d.add(KindPyPI, one, "pip's extra index")
	}
}

// pipSettings reads index-url and extra-index-url of the sections that installing reads.
func pipSettings(text string) (index, extra string) {
	section, last := "", ""
	for line := range strings.Lines(text) {
		bare := strings.TrimSpace(line)
		switch {
		case bare == "" || bare[0] == '#' || bare[0] == ';':
			continue
		case bare[0] == '[':
			section, last = strings.Trim(bare, "[]"), ""
			continue
		}
		if section != "global" && section != "install" {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' { // goes on
			if last == "extra-index-url" {
				extra += " " + bare
			}
			continue
		}
		key, value, _ := strings.Cut(bare, "=")
		last, value = strings.ReplaceAll(strings.TrimSpace(key), "_", "-"), strings.TrimSpace(value)
		switch last {
		case "index-url":
			index = value
		case "extra-index-url":
			extra = value
		}
	}
	return index, extra
}

// pipDefault looks for an installed pip beside each Python.
func (d *discovery) pipDefault() (base, files string) {
	var libs []string
	for _, bin := range append(d.programs("python3"), d.programs("pip")...) {
		libs = append(libs, path.Join(path.Dir(bin), "../lib"))
	}
	libs = append(libs, "/usr/lib", "/usr/local/lib")
	if root := d.h.Env("PYENV_ROOT"); root != "" {
		libs = append(libs, d.glob(path.Join(root, "versions/*/lib"))...)
	}
	libs = append(libs, d.glob(d.home(".pyenv/versions/*/lib"))...)
	for _, lib := range libs {
		for _, pattern := range []string{"python3*/site-packages", "python3*/dist-packages", "python3/dist-packages"} {
			for _, dir := range d.glob(path.Join(lib, pattern)) {
				text, _ := d.read(path.Join(dir, "pip/_internal/models/index.py"))
				if m := pipDefault.FindStringSubmatch(text); m != nil {
					return m[1], m[2]
				}
			}
		}
	}
	return "", ""
}

func (d *discovery) glob(pattern string) []string {
	found, err := fs.Glob(d.h.FS, strings.TrimPrefix(path.Clean(pattern), "/"))
	if err != nil || !path.IsAbs(pattern) {
		return nil
	}
	for i := range found {
		found[i] = "/" + found[i]
	}
	return found
}
