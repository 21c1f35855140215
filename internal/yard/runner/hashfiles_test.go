package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hashOf is what hashFiles says of files with these contents, in this order.
func hashOf(contents ...string) string {
	if len(contents) == 0 {
		return ""
	}
	all := sha256.New()
	for _, c := range contents {
		one := sha256.Sum256([]byte(c))
		all.Write(one[:])
	}
	return hex.EncodeToString(all.Sum(nil))
}

func TestHashFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	for name, text := range map[string]string{
		"a.txt": "1", "a/b.txt": "2", "a-b/c.txt": "3", ".hidden/d.txt": "4", "z/e.txt": "5", "[x]/f.txt": "6", "a/sub/g.txt": "7", outside: "8",
	} {
		full := name
		if !filepath.IsAbs(name) {
			full = filepath.Join(dir, name)
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"l/file.txt": "../z/e.txt", "l/dir": "../a", "l/loop": "..", "l/broken.txt": "none", "l/out.txt": outside, "l/up.txt": "../../../../../etc/passwd",
	} {
		if err := os.MkdirAll(filepath.Join(dir, "l"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args, want []string
		fails      string
	}{
		{args: []string{"a.txt"}, want: []string{"1"}},
		{args: []string{"none", ""}},
		{args: []string{"**/*.txt", "!l"}, want: []string{"4", "6", "2", "7", "3", "1", "5"}}, // a/ comes before a-b/, and that before a.txt
		{args: []string{"z/e.txt", "a.txt"}, want: []string{"5", "1"}},                        // in the order of the patterns
		{args: []string{"a/sub", "a"}, want: []string{"2", "7"}},
		{args: []string{"a"}, want: []string{"2", "7"}},
		{args: []string{"a/*"}, want: []string{"2", "7"}},
		{args: []string{"a/**", "!a/sub/**"}, want: []string{"2"}},
		{args: []string{"a", "!a/**", "a/sub"}, want: []string{"7"}},
		{args: []string{"a", "!! a/sub"}, want: []string{"2", "7"}},
		{args: []string{"# all\n  a.txt  \n\n!none\nz"}, want: []string{"1", "5"}},
		{args: []string{"./z/**"}, want: []string{"5"}},
		{args: []string{roomHome + "/work/z/*.txt"}, want: []string{"5"}},
		{args: []string{"/etc/passwd", "/**", "~/x", roomHome + "/workspace"}},
		{args: []string{"[[]x]/*"}, want: []string{"6"}},
		{args: []string{"?/[b-e].txt"}, want: []string{"2", "5"}},
		{args: []string{"l"}, want: []string{"5"}}, // the file that a link leads to, no directory, nothing outside
		{args: []string{"--follow-symbolic-links", "l/dir", "l/*.txt"}, want: []string{"2", "7", "5"}},
		{args: []string{"--Follow-Symbolic-Links", "l/loop/z"}, want: []string{"5"}},
		{args: []string{"--follow-symbolic-links", "l/loop/l/loop/l"}, want: []string{"2", "7", "5", "4", "6", "2", "7", "3", "1", "5"}},
		{args: []string{"--follow-symbolic-links"}},
		{args: []string{"--follow", "a"}, fails: "there is no option"},
		{args: []string{"a", "--follow-symbolic-links"}, want: []string{"2", "7"}},
		{args: []string{"../x"}, fails: "segment"},
		{args: []string{"a/../z"}, fails: "segment"},
		{args: []string{"a/./b.txt"}, fails: "segment"},
		{args: []string{"a/[b"}, fails: "not a valid pattern"},
	} {
		got, err := HashFiles(dir, c.args)
		switch {
		case c.fails != "":
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("hashFiles(%q): %q, %v, want %q", c.args, got, err, c.fails)
			}
		case err != nil || got != hashOf(c.want...):
			t.Errorf("hashFiles(%q) = %q, %v, want that of %q", c.args, got, err, c.want)
		}
	}
}
