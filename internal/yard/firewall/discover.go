package firewall

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Host is what Discover looks at: a file system from its root, and an environment.
type Host struct {
	FS  fs.FS
	Env func(name string) string
}

const maxConfigFile = 4 << 20

// Discover reads from the configuration of the host's own clients which registries they use: go, npm, pip, cargo
// and apt, with their environment variables, their files, and the defaults that the installed clients carry
// in files of theirs. It runs nothing. What it cannot read is no reason to know nothing: it is said in notes, for
// the operator.
func Discover(h Host) (Upstreams, []string) {
	out, notes, _ := DiscoverWith(h, nil) // without a file nothing can be wrong with it
	return out, notes
}

type discovery struct {
	h     Host
	out   Upstreams
	notes []string
	// machines are the credentials of netrc and apt's auth.conf, in order.
	machines []machine
	tokens   []npmToken
}

func (d *discovery) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// read returns a file by its absolute path; false when there is none that can be read.
func (d *discovery) read(file string) (string, bool) {
	name := strings.TrimPrefix(path.Clean(file), "/")
	if !path.IsAbs(file) || name == "" {
		return "", false
	}
	f, err := d.h.FS.Open(name)
	if err != nil {
		return "", false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", false
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxConfigFile))
	return string(raw), err == nil
}

// list returns the absolute paths of a directory's files that end in suffix, sorted.
func (d *discovery) list(dir, suffix string) []string {
	entries, err := fs.ReadDir(d.h.FS, strings.TrimPrefix(path.Clean(dir), "/"))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) && !strings.HasPrefix(e.Name(), ".") {
			out = append(out, path.Join(dir, e.Name()))
		}
	}
	return out
}

// real follows symbolic links of a file's path, as far as they can be followed.
func (d *discovery) real(file string) string {
	for range 16 {
		target, err := fs.ReadLink(d.h.FS, strings.TrimPrefix(path.Clean(file), "/"))
		if err != nil {
			return file
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(file), target)
		}
		file = target
	}
	return file
}

// programs returns where a program is on PATH, links followed.
func (d *discovery) programs(name string) []string {
	var out []string
	for _, dir := range strings.Split(d.h.Env("PATH"), ":") {
		file := path.Join(dir, name)
		if !path.IsAbs(file) {
			continue
		}
		if info, err := fs.Stat(d.h.FS, strings.TrimPrefix(file, "/")); err == nil && !info.IsDir() {
			out = append(out, d.real(file))
		}
	}
	return out
}

// home is the user's home directory.
func (d *discovery) home(rest string) string {
	if h := d.h.Env("HOME"); path.IsAbs(h) {
		return path.Join(h, rest)
	}
	return ""
}

// configHome is where the user's configuration files are.
func (d *discovery) configHome(rest string) string {
	if h := d.h.Env("XDG_CONFIG_HOME"); path.IsAbs(h) {
		return path.Join(h, rest)
	}
	return d.home(path.Join(".config", rest))
}

// add takes a registry, once. It returns nil when there is none of this address.
func (d *discovery) add(kind Kind, address, from string) *Upstream {
	u, err := NewUpstream(kind, address)
	if err != nil {
		d.note("%s: %v; it is passed over", from, err)
		return nil
	}
	i := slices.IndexFunc(d.out.List, func(o Upstream) bool { return o.Kind == kind && o.Base.String() == u.Base.String() })
	if i < 0 {
		d.out.List = append(d.out.List, u)
		i = len(d.out.List) - 1
	} else if d.out.List[i].Authorization.Empty() {
		d.out.List[i].Authorization = u.Authorization
	}
	return &d.out.List[i]
}

// keyValues reads lines of KEY=VALUE, as go/env and npmrc have them.
func keyValues(text string, comment string) [][2]string {
	var out [][2]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.ContainsAny(line[:1], comment) {
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok {
			out = append(out, [2]string{strings.TrimSpace(key), strings.Trim(strings.TrimSpace(value), `"'`)})
		}
	}
	return out
}
