package lockfile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, body string
		want       []string
	}{
		{"go.sum", "example.com/a v1.0.0 h1:AAA=\nexample.com/a v1.0.0/go.mod h1:BBB=\nexample.com/b v2.0.0+incompatible h1:CCC=\nbroken\n", []string{"pkg:golang/example.com/a@v1.0.0 [h1:AAA=]", "pkg:golang/example.com/b@v2.0.0%2Bincompatible [h1:CCC=]"}},
		{"web/package-lock.json", `{"lockfileVersion":3,"packages":{"":{"name":"m","version":"1.0.0"},"node_modules/@acme/a":{"version":"1.0.0","integrity":"sha512-x sha1-y"},"node_modules/b/node_modules/c":{"version":"2.0.0","integrity":"sha512-z"},"node_modules/alias":{"name":"real","version":"1.0.0","integrity":"sha512-r"},"local":{"version":"0.0.0"}}}`,
			[]string{"pkg:npm/%40acme/a@1.0.0 [sha512-x sha1-y]", "pkg:npm/c@2.0.0 [sha512-z]", "pkg:npm/real@1.0.0 [sha512-r]"}},
		{"npm-shrinkwrap.json", `{"lockfileVersion":1,"dependencies":{"a":{"version":"1.0.0","integrity":"sha512-x","dependencies":{"b":{"version":"1.1.0","integrity":"sha1-y"}}}}}`, []string{"pkg:npm/a@1.0.0 [sha512-x]", "pkg:npm/b@1.1.0 [sha1-y]"}},
		{"requirements.txt", "# pinned\nMy_Project[extra]==1.0 ; python_version > '3' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nloose>=2\nunpinned==1.* --hash=sha256:cc\nbare==1.0\n-r other.txt\n", []string{"pkg:pypi/my-project@1.0 [sha256:aa sha256:bb]"}},
		{"Cargo.lock", "version = 3\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\nchecksum = \"aa\"\ndependencies = [\n \"b\",\n]\n\n[[package]]\nname = \"mine\"\nversion = \"0.1.0\"\n\n[metadata]\nname = \"x\"\n", []string{"pkg:cargo/serde@1.0.0 [sha256:aa]"}},
		{"poetry.lock", "[[package]]\nname = \"My.Project\"\nversion = \"1.0\"\nfiles = [\n    {file = \"my_project-1.0.tar.gz\", hash = \"sha256:aa\"},\n    {file = \"b.whl\", hash = \"sha256:bb\"},\n]\n\n[package.dependencies]\nname = \"1\"\n\n[metadata]\ncontent-hash = \"x\"\n", []string{"pkg:pypi/my-project@1.0 [sha256:aa sha256:bb]"}},
		{"uv.lock", "version = 1\n\n[[package]]\nname = \"six\"\nversion = \"1.16.0\"\nsource = { registry = \"x\" }\nsdist = { url = \"u\", hash = \"sha256:aa\", size = 1 }\nwheels = [\n    { url = \"v\", hash = \"sha256:bb\", size = 2 },\n]\n", []string{"pkg:pypi/six@1.16.0 [sha256:aa sha256:bb]"}},
	} {
		got, err := Parse(c.file, []byte(c.body))
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		var text []string
		for _, p := range got {
			text = append(text, fmt.Sprintf("%s %v", p.PURL, p.Sums))
		}
		slices.Sort(text)
		if !slices.Equal(text, c.want) {
			t.Errorf("%s: got %q, want %q", c.file, text, c.want)
		}
	}
	for file, body := range map[string]string{"package-lock.json": "{", "yarn.lock": "", "go.sum": strings.Repeat("x", MaxBytes+1), "Cargo.lock": strings.Repeat("x", maxLine+1)} {
		if _, err := Parse(file, []byte(body)); err == nil {
			t.Errorf("%s of %d bytes was read", file, len(body))
		}
	}
}

func FuzzParse(f *testing.F) {
	for i := range Names() {
		f.Add(i, []byte("[[package]]\nname = \"a\"\nversion = \"1\"\nchecksum = \"aa\"\n"))
		f.Add(i, []byte(`{"packages":{"node_modules/a":{"version":"1","integrity":"sha512-x"}}}`))
	}
	f.Fuzz(func(t *testing.T, which int, raw []byte) {
		names := Names()
		got, err := Parse(names[(which%len(names)+len(names))%len(names)], raw)
		for _, p := range got {
			if err == nil && (len(p.Sums) == 0 || !strings.HasPrefix(p.PURL, "pkg:")) {
				t.Errorf("got %+v", p)
			}
		}
	})
}
