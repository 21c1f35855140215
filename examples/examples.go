// Package examples holds sample projects, so that the demo can make them
// anywhere. Each directory is a repository's content but for its go.mod: with
// one it would not be part of this module, and neither tested with it nor embedded.
package examples

import (
	"embed"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

//go:embed all:hello all:hello-broken
var files embed.FS

// Write puts the files of a sample into dir, over what is there. The ending
// .txt of a Go file of a variant is dropped.
func Write(sample, dir string) error {
	sub, err := fs.Sub(files, sample)
	if err != nil {
		return err
	}
	return fs.WalkDir(sub, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(strings.Replace(name, ".go.txt", ".go", 1)))
		if d.IsDir() {
			return os.MkdirAll(path, 0o755)
		}
		content, err := fs.ReadFile(sub, name)
		if err != nil {
			return err
		}
		return os.WriteFile(path, content, 0o644)
	})
}
