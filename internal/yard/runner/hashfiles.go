package runner

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	sallyport "github.com/sallyport-ci/sallyport"
)

// maxHashed bounds the bytes that hashFiles reads.
const maxHashed = 2 << 30

// followOption is the only option of hashFiles; it comes before the patterns.
const followOption = "--follow-symbolic-links"

// hashFiles is the hashFiles function: the SHA-256 of the SHA-256 of each file
// that the patterns select in the workspace, "" when there is none. As on
// GitHub, an argument may have several lines; a file is one that a symbolic link
// leads to, too; links to directories are followed if that is asked for; and the
// files come in the order in which they are found. Links that lead out of the
// work directory are passed over.
func (l *layout) hashFiles(args []string) (string, error) {
	w := &walker{root: l.workRoot, hidden: true, links: fileLinks}
	if len(args) > 0 && strings.HasPrefix(args[0], "--") {
		if !strings.EqualFold(args[0], followOption) {
			return "", sallyport.Errorf(sallyport.CodeInvalid, "there is no option %.200q: there is %s", args[0], followOption)
		}
		w.links, args = followLinks, args[1:]
	}
	var err error
	w.globs, err = l.readGlobs(strings.Split(strings.Join(args, "\n"), "\n"), l.hashPlace)
	if err != nil {
		return "", err
	}
	if err := w.walk(); err != nil {
		return "", err
	}
	files := w.out.files
	slices.SortFunc(files, w.out.compare)
	all := sha256.New()
	left := int64(maxHashed)
	for _, name := range files {
		one, n, err := hashFile(l.workRoot, name, left+1)
		if err != nil {
			return "", fmt.Errorf("hash %.200q: %w", name, err)
		}
		if left -= n; left < 0 {
			return "", sallyport.Errorf(sallyport.CodeInvalid, "the files have more than %d MiB", maxHashed>>20)
		}
		all.Write(one)
	}
	if len(files) == 0 {
		return "", nil
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// hashPlace leaves out what lies outside of the workspace.
func (l *layout) hashPlace(line, full string) (string, error) {
	for i, segment := range strings.Split(strings.TrimLeft(line, "! \t"), "/") {
		if segment == ".." || segment == "." && i > 0 {
			return "", sallyport.Errorf(sallyport.CodeInvalid, "the pattern %.200q has the segment %q: write it from the workspace on", line, segment)
		}
	}
	if full != l.workspace() && !strings.HasPrefix(full, l.workspace()+"/") {
		return "", nil
	}
	rel, _ := l.inWork(full) // the workspace is in it
	return rel, nil
}

// compare orders files as they are found: by the search that finds them, then
// directory by directory.
func (f *found) compare(a, b string) int {
	search := func(name string) int {
		return slices.IndexFunc(f.searches, func(s string) bool {
			return s == "." || name == s || strings.HasPrefix(name, s+"/")
		})
	}
	return cmp.Or(cmp.Compare(search(a), search(b)), slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")))
}

// hashFile returns the digest of a file's first bytes, and how many these are.
func hashFile(root *os.Root, name string, limit int64) (sum []byte, n int64, err error) {
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, 0, sallyport.Errorf(sallyport.CodeInvalid, "it was replaced while it was opened")
	}
	one := sha256.New()
	n, err = io.Copy(one, io.LimitReader(file, limit))
	return one.Sum(nil), n, err
}

// HashFiles is the hashFiles function for a workspace that is a directory of
// this host.
func HashFiles(dir string, patterns []string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("open the workspace: %w", err)
	}
	defer root.Close()
	l := &layout{workRoot: root, home: roomHome, work: roomHome + "/work"} // no repository: the work directory is the workspace
	return l.hashFiles(patterns)
}
