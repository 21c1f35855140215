package runner

import (
	"path"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// cachePaths are the lines of a cache's path input, as patterns relative to the
// root of the room: a cache may lie anywhere in it.
type cachePaths struct {
	globs []glob
	bases []cacheBase
}

// cacheBase is a place of the room under a name that it has in archives, so that
// they can be unpacked where the place is another. The first one that holds a path counts.
type cacheBase struct{ name, dir string }

// cachePaths reads the lines; relative paths begin at the workspace.
func (l *layout) cachePaths(lines []string) (cachePaths, error) {
	p := cachePaths{bases: []cacheBase{
		{"workspace", l.workspace()[1:]}, {"work", l.work[1:]}, {"home", l.home[1:]}, {"root", "."},
	}}
	for _, line := range lines {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if len(p.globs) == maxPatterns {
			return p, sallyport.Errorf(sallyport.CodeInvalid, "more than %d paths", maxPatterns)
		}
		text, negate := strings.CutPrefix(line, "!")
		text = l.absolute(strings.TrimSpace(text))
		if text == "/" || hasNUL(text) || len(text) > maxArchiveName {
			return p, sallyport.Errorf(sallyport.CodeInvalid, "%.200q cannot be cached", line).WithHint("name the directories that are worth it")
		}
		g, err := newGlob(text[1:], negate)
		if err != nil {
			return p, sallyport.Errorf(sallyport.CodeInvalid, "%.200q is not a valid pattern", line)
		}
		if first, _, _ := strings.Cut(g.search, "/"); !negate && (first == "." || first == "proc" || first == "sys" || first == "dev") {
			return p, sallyport.Errorf(sallyport.CodeInvalid, "%.200q cannot be cached", line).WithHint("name a directory before the first wildcard")
		}
		p.globs = append(p.globs, g)
	}
	if len(searchPaths(p.globs)) == 0 {
		return p, sallyport.Errorf(sallyport.CodeInvalid, "Path Validation Error: At least one directory or file path is required")
	}
	return p, nil
}

// searches are the absolute paths to look at.
func (p cachePaths) searches() []string {
	var out []string
	for _, s := range searchPaths(p.globs) {
		out = append(out, "/"+s)
	}
	return out
}

// selects reports whether a path, relative to the root, belongs into the cache. The
// command files never do: who could write them would run commands as later steps.
func (p cachePaths) selects(name string) bool {
	commands := path.Join(p.bases[1].dir, commandDir)
	return name != commands && !strings.HasPrefix(name, commands+"/") && selected(p.globs, name)
}

// stored is the name that a path has in an archive.
func (p cachePaths) stored(name string) string {
	for _, b := range p.bases {
		if rest, ok := strings.CutPrefix(name+"/", b.dir+"/"); ok {
			return path.Join(b.name, rest)
		}
	}
	return path.Join("root", name)
}

// placed is the path of what has that name in an archive.
func (p cachePaths) placed(stored string) (name string, ok bool) {
	first, rest, _ := strings.Cut(stored, "/")
	for _, b := range p.bases {
		if b.name == first {
			return path.Join(b.dir, rest), true
		}
	}
	return "", false
}
