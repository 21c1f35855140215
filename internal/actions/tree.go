package actions

import (
	"archive/tar"
	"errors"
	"io"

	"github.com/sallyport-ci/sallyport"
)

// Bounds of what is read of a tree to plan with it.
const (
	maxMetadataFile  = 1 << 20 // what the compiler reads of one file
	maxMetadataFiles = 2000
	maxMetadataBytes = 32 << 20
)

// Metadata are the files of a tree that say what its actions and workflows
// are, by path.
type Metadata map[string][]byte

// ReadMetadata reads the metadata of a tree, which stand at its beginning. The
// rest is not read.
func ReadMetadata(tree io.Reader) (Metadata, error) {
	m, total := Metadata{}, 0
	tr := tar.NewReader(tree)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return nil, err
		}
		if !sallyport.ActionMetadata(h.Name) || h.Typeflag != tar.TypeReg {
			return m, nil
		}
		if h.Size > maxMetadataFile {
			continue // the compiler would not read it either
		}
		if total += int(h.Size); total > maxMetadataBytes || len(m) == maxMetadataFiles {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the repository has more than %d actions and workflows", maxMetadataFiles)
		}
		if m[h.Name], err = io.ReadAll(tr); err != nil {
			return nil, err
		}
	}
}

// ReadFile returns a file as workflow.Remote does.
func (m Metadata) ReadFile(path string) ([]byte, error) {
	b, ok := m[path]
	if !ok {
		return nil, sallyport.Errorf(sallyport.CodeNotFound, "the repository has no file %.200q", path)
	}
	return b, nil
}
