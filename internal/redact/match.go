package redact

import (
	"bytes"
	"encoding/binary"
	"sort"
	"strings"
)

// blockBits is the size of the shift table: three bytes of text are hashed to so
// many bits. More bits mean fewer collisions and longer shifts; a table of 256 KiB still
// stays in a core's second-level cache.
const blockBits = 18

// maxShift keeps a shift in one byte.
const maxShift = 255

// matcher finds any of a set of patterns by the method of Wu and Manber ("A
// fast algorithm for multi-pattern searching", TR-94-17): a window as long as
// the shortest pattern slides over the text, and the last three bytes in it tell how
// far it may move without missing the start of any pattern. Where it may not move, the
// first four bytes select the patterns that are compared. It is immutable.
type matcher struct {
	min, max int      // length of the shortest and the longest pattern
	patterns []string // sorted
	// parent is the longest other pattern that the pattern begins with, or -1.
	parent []int32
	shift  []uint8
	filter [1 << 10]uint64 // by hash of the first four bytes, one bit each
	heads  map[uint32]span // by the first four bytes
	first  [4]uint64       // the bytes that patterns begin with
	second [1 << 10]uint64 // the pairs of bytes that patterns begin with
}

// span is a range of patterns with the same four bytes at their head.
type span struct{ from, to int32 }

func block(a, b, c byte) uint32 {
	return (uint32(a) ^ uint32(b)<<5 ^ uint32(c)<<10) & (1<<blockBits - 1)
}

func head(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

func headHash(h uint32) uint32 { return h * 0x9e3779b1 >> 16 }

// newMatcher builds a matcher of patterns of at least MinValue bytes.
func newMatcher(set map[string]struct{}) *matcher {
	m := &matcher{}
	if len(set) == 0 {
		return m
	}
	m.patterns = make([]string, 0, len(set))
	m.min = maxShift
	for p := range set {
		m.patterns = append(m.patterns, p)
		m.min, m.max = min(m.min, len(p)), max(m.max, len(p))
	}
	sort.Strings(m.patterns)

	m.shift = bytes.Repeat([]byte{byte(m.min - 2)}, 1<<blockBits)
	m.heads = make(map[uint32]span, len(m.patterns))
	m.parent = make([]int32, len(m.patterns))
	last := int32(-1) // of the patterns so far that may be a prefix of the next
	for i, p := range m.patterns {
		for last >= 0 && !strings.HasPrefix(p, m.patterns[last]) {
			last = m.parent[last]
		}
		m.parent[i], last = last, int32(i)

		b := []byte(p[:m.min])
		for j := 2; j < len(b); j++ {
			s := &m.shift[block(b[j-2], b[j-1], b[j])]
			*s = min(*s, byte(len(b)-1-j))
		}
		h := head(b)
		x := headHash(h)
		m.filter[x>>6] |= 1 << (x & 63)
		sp, known := m.heads[h]
		if !known {
			sp.from = int32(i)
		}
		sp.to = int32(i) + 1
		m.heads[h] = sp
		m.first[b[0]>>6] |= 1 << (b[0] & 63)
		y := pair(b)
		m.second[y>>6] |= 1 << (y & 63)
	}
	return m
}

func pair(b []byte) uint32 { return uint32(b[0])<<8 | uint32(b[1]) }

// find returns the first start >= from at which a pattern occurs in t, and the end
// of the longest one there; start is -1 when there is none.
func (m *matcher) find(t []byte, from int) (start, end int) {
	if len(m.patterns) == 0 {
		return -1, 0
	}
	shift := m.shift
	if len(shift) != 1<<blockBits {
		return -1, 0 // tells the compiler that no index below is out of range
	}
	for i := from + m.min - 1; i < len(t) && i >= 2; {
		if s := shift[block(t[i-2], t[i-1], t[i])]; s != 0 {
			i += int(s)
			continue
		}
		at := i - m.min + 1
		h := head(t[at:])
		if x := headHash(h); m.filter[x>>6]&(1<<(x&63)) != 0 {
			if sp, ok := m.heads[h]; ok {
				if n := m.longest(sp, t[at:]); n > 0 {
					return at, at + n
				}
			}
		}
		i++
	}
	return -1, 0
}

// longest returns the length of the longest pattern of the span that t begins with, or 0.
// All of them are prefixes of the last pattern that does not sort after t.
func (m *matcher) longest(sp span, t []byte) int {
	t = t[:min(len(t), m.max)]
	n := sort.Search(int(sp.to-sp.from), func(k int) bool {
		return m.patterns[int(sp.from)+k] > string(t)
	})
	if n == 0 {
		return 0
	}
	k := sp.from + int32(n) - 1
	common := commonPrefix(m.patterns[k], t)
	for ; k >= 0; k = m.parent[k] {
		if len(m.patterns[k]) <= common {
			return len(m.patterns[k])
		}
	}
	return 0
}

func commonPrefix(p string, t []byte) int {
	n := min(len(p), len(t))
	for i := range n {
		if p[i] != t[i] {
			return i
		}
	}
	return n
}

// pending returns the first position from which on t may be the beginning of a
// pattern that continues beyond t; len(t) when there is none.
func (m *matcher) pending(t []byte) int {
	if len(m.patterns) == 0 {
		return len(t)
	}
	for i := max(0, len(t)-m.max+1); i < len(t); i++ {
		rest := t[i:]
		if len(rest) == 1 {
			if m.first[rest[0]>>6]&(1<<(rest[0]&63)) != 0 {
				return i
			}
			continue
		}
		if y := pair(rest); m.second[y>>6]&(1<<(y&63)) == 0 {
			continue
		}
		k := sort.Search(len(m.patterns), func(k int) bool { return m.patterns[k] > string(rest) })
		if k < len(m.patterns) && len(m.patterns[k]) > len(rest) && m.patterns[k][:len(rest)] == string(rest) {
			return i
		}
	}
	return len(t)
}
