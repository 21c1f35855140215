package forge

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

func FuzzReadCommands(f *testing.F) {
	id := strings.Repeat("a", 40)
	for _, s := range []string{
		"0000", "0001", "0004", "fff0", "00", "zzzz",
		string(line("%s %s refs/heads/main\x00report-status side-band-64k", sallyport.ZeroCommit, id).append(nil)) + "0000PACK",
		string(line("shallow %s", id).append(nil)) + "0000",
		string(line("%s %s refs/heads/a b\n", id, sallyport.ZeroCommit).append(nil)) + "0000",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		c, err := readCommands(r)
		if len(c.updates) > maxUpdates || len(c.raw) > len(b) {
			t.Fatalf("%d updates, %d of %d bytes", len(c.updates), len(c.raw), len(b))
		}
		if err != nil {
			return
		}
		// What is handed on to git is what was read, in the same meaning.
		if !strings.EqualFold(string(c.raw), string(b[:len(c.raw)])) || r.Len() != len(b)-len(c.raw) {
			t.Fatalf("raw %q of %q, %d left", c.raw, b, r.Len())
		}
		if c.refused != nil {
			return
		}
		for _, u := range c.updates {
			if !validRef(u.Ref) || !validCommit(u.Old) || !validCommit(u.New) {
				t.Fatalf("accepted %+v", u)
			}
		}
	})
}

func FuzzTree(f *testing.F) {
	f.Add([]byte("100644 a\x00" + strings.Repeat("x", 20) + "40000 b\x00" + strings.Repeat("y", 20)))
	f.Add([]byte("100644 a"))
	f.Add([]byte(" \x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_ = eachEntry(b, func(e treeEntry) bool {
			if n++; !validCommit(e.id) || e.name == "" || strings.ContainsAny(e.name, "/\x00") {
				t.Fatalf("entry %+v", e)
			}
			return true
		})
		if n > len(b)/22 {
			t.Fatalf("%d entries of %d bytes", n, len(b))
		}
	})
}

func FuzzCommit(f *testing.F) {
	tree := "tree " + strings.Repeat("a", 40) + "\n"
	f.Add([]byte(tree + "author A <a@b> 1700000000 +0530\n\nsubject\n\nbody\n"))
	f.Add([]byte(tree + "author <<>> -1 x\ngpgsig x\n tree y\n\n"))
	f.Add([]byte(tree + "author A <a> 99999999999999 +9999"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCommit(strings.Repeat("b", 40), b)
		if err != nil {
			return
		}
		for _, s := range []string{c.Subject, c.Message, c.Author, c.Email, c.Timestamp} {
			if strings.ToValidUTF8(s, "") != s || strings.ContainsRune(s, 0) {
				t.Fatalf("%q", s)
			}
		}
		if strings.Contains(c.Subject, "\n") || !validCommit(c.Tree) {
			t.Fatalf("%+v", c)
		}
	})
}

func FuzzReadPacket(f *testing.F) {
	f.Add([]byte("0000"))
	f.Add([]byte("0009hello"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readPacket(bytes.NewReader(b))
		if err == nil && !strings.EqualFold(string(p.append(nil)), string(b[:len(p.append(nil))])) {
			t.Fatalf("%q became %q", b, p.append(nil))
		}
	})
}
