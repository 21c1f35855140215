package trace

import (
	"bytes"
	"cmp"
	"crypto/sha1" // git names objects by it
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"path"
	"slices"
	"strings"
)

const (
	// maxIndex bounds git's index: about 100 bytes for each file.
	maxIndex = 256 << 20
	// maxTracked bounds the files that are looked at again and again.
	maxTracked = 500_000
	// maxDirectories bounds the directories of all files, each counted for itself, and maxDeep those of one.
	maxDirectories = 8_000_000
	maxDeep        = 128
)

// tracked is a file of the repository as git wrote it into the workspace.
type tracked struct {
	path        string // from the repository's root
	mode        uint32 // git's: 100644, 100755, 120000, 160000 in octal
	id          string // of the blob, raw bytes
	skip        bool   // of a sparse checkout: not in the workspace
	changed     [2]uint32
	modified    [2]uint32
	inode, size uint32 // the low 32 bits
}

// Modes of git's trees.
const (
	modeLink      = 0o120000
	modeSubmodule = 0o160000
)

// parseIndex reads git's index of versions 2 to 4, as gitformat-index(5) describes it;
// idSize is 20 for SHA-1, 32 for SHA-256. The checksum at its end is verified, unless git was
// told to leave it out.
func parseIndex(b []byte, idSize int) ([]tracked, error) {
	bad := func(format string, args ...any) ([]tracked, error) {
		return nil, fmt.Errorf("git index: "+format, args...)
	}
	if len(b) < 12+idSize || string(b[:4]) != "DIRC" {
		return bad("it does not begin as one")
	}
	version, count := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	if version < 2 || version > 4 {
		return bad("version %d is not known", version)
	}
	body, sum := b[:len(b)-idSize], b[len(b)-idSize:]
	h := newHash(idSize)
	h.Write(body)
	if !bytes.Equal(h.Sum(nil), sum) && !bytes.Equal(sum, make([]byte, idSize)) {
		return bad("its checksum is wrong")
	}
	fixed := 40 + idSize + 2
	if count > maxTracked || int(count) > len(body)/fixed {
		return bad("%d files are too many", count)
	}
	list := make([]tracked, 0, count)
	rest, previous, directories := body[12:], "", 0
	for range count {
		if len(rest) < fixed {
			return bad("it ends early")
		}
		word := func(at int) uint32 { return binary.BigEndian.Uint32(rest[at:]) }
		t := tracked{
			changed: [2]uint32{word(0), word(4)}, modified: [2]uint32{word(8), word(12)},
			inode: word(20), mode: word(24), size: word(36), id: string(rest[40 : 40+idSize]),
		}
		flags, head := binary.BigEndian.Uint16(rest[40+idSize:]), fixed
		if flags&0x4000 != 0 { // extended
			if version < 3 || len(rest) < fixed+2 {
				return bad("it has flags of another version")
			}
			t.skip = binary.BigEndian.Uint16(rest[fixed:])&0x4000 != 0
			head += 2
		}
		name, used, err := indexName(rest[head:], head, version, previous)
		if err != nil {
			return bad("%w", err)
		}
		deep := strings.Count(name, "/")
		if directories += deep; deep > maxDeep || directories > maxDirectories {
			return bad("its directories are too many")
		}
		if !relative(name) {
			return bad("the path %.100q leads elsewhere", name)
		}
		if flags&0x3000 == 0 { // not a side of a conflict
			t.path = name
			list = append(list, t)
		}
		previous, rest = name, rest[head+used:]
	}
	if !slices.IsSortedFunc(list, func(a, b tracked) int { return strings.Compare(a.path, b.path) }) {
		return bad("its files are not in order")
	}
	return list, nil
}

// indexName reads an entry's path and returns how many bytes it takes with its padding. In
// version 4 a path tells how much of the previous one it keeps.
func indexName(b []byte, head int, version uint32, previous string) (string, int, error) {
	keep := ""
	at := 0
	if version == 4 {
		drop := 0
		for i := 0; ; i++ {
			if at >= len(b) || i > 4 {
				return "", 0, errors.New("a path's length is wrong")
			}
			c := b[at]
			at++
			if i > 0 {
				drop++
			}
			drop = drop<<7 | int(c&0x7f)
			if c&0x80 == 0 {
				break
			}
		}
		if drop > len(previous) {
			return "", 0, errors.New("a path keeps more than there was")
		}
		keep = previous[:len(previous)-drop]
	}
	end := bytes.IndexByte(b[at:], 0)
	if end < 0 || len(keep)+end > maxPathBytes {
		return "", 0, errors.New("a path does not end")
	}
	name := keep + string(b[at:at+end])
	used := at + end + 1
	if version < 4 { // padded with NULs to a multiple of eight
		used = (head+end+8)&^7 - head
		if used > len(b) {
			return "", 0, errors.New("it ends early")
		}
	}
	return name, used, nil
}

// maxPathBytes is Linux's PATH_MAX.
const maxPathBytes = 4096

// relative tells whether a path stays beneath the root that it is used from, and out of git's own directory.
func relative(p string) bool {
	return p != "" && p[0] != '/' && path.Clean(p) == p && p != "." && p != ".." && !strings.HasPrefix(p, "../") &&
		p != ".git" && !strings.HasPrefix(p, ".git/")
}

func newHash(idSize int) hash.Hash {
	if idSize == sha256.Size {
		return sha256.New()
	}
	return sha1.New()
}

// treeID is the id of the tree that holds these files, which are sorted by path: that of the
// commit when nothing was added, left out or exchanged.
func treeID(list []tracked, idSize int) string {
	id, _ := subtree(list, "", idSize)
	return hex.EncodeToString([]byte(id))
}

// subtree hashes the files that begin with prefix and returns those after them.
func subtree(list []tracked, prefix string, idSize int) (string, []tracked) {
	type item struct{ order, entry string } // directories sort as if their name ended with a slash
	var items []item
	for len(list) > 0 && strings.HasPrefix(list[0].path, prefix) {
		name, _, below := strings.Cut(list[0].path[len(prefix):], "/")
		if !below {
			items = append(items, item{name, fmt.Sprintf("%o %s\x00%s", list[0].mode, name, list[0].id)})
			list = list[1:]
			continue
		}
		var id string
		id, list = subtree(list, prefix+name+"/", idSize)
		items = append(items, item{name + "/", fmt.Sprintf("40000 %s\x00%s", name, id)})
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.order, b.order) })
	var text strings.Builder
	for _, i := range items {
		text.WriteString(i.entry)
	}
	h := newHash(idSize)
	fmt.Fprintf(h, "tree %d\x00%s", text.Len(), text.String())
	return string(h.Sum(nil)), list
}
