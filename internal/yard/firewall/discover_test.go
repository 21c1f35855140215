package firewall_test

import (
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

func link(to string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink | 0o777}
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func discover(files fstest.MapFS, env ...string) (firewall.Upstreams, []string) {
	return firewall.Discover(firewall.Host{FS: files, Env: func(name string) string {
		for _, e := range env {
			if k, v, _ := strings.Cut(e, "="); k == name {
				return v
			}
		}
		return ""
	}})
}

// described lists registries, with what else is known of them.
func described(u firewall.Upstreams) []string {
	var out []string
	for _, r := range u.List {
		s := string(r.Kind) + " " + r.Base.String()
		if len(r.Scopes) > 0 {
			s += " scopes " + strings.Join(r.Scopes, ",")
		}
		if len(r.Suites) > 0 {
			s += " suites " + strings.Join(r.Suites, ",") + " components " + strings.Join(r.Components, ",")
		}
		if len(r.Files) > 0 {
			s += " files " + strings.Join(r.Files, ",")
		}
		if !r.Authorization.Empty() {
			s += " " + string(r.Authorization.Reveal())
		}
		out = append(out, s)
	}
	return out
}

// TestDiscoverDefaults finds what freshly installed clients would ask, in files of theirs.
func TestDiscoverDefaults(t *testing.T) {
	t.Parallel()
	u, notes := discover(fstest.MapFS{
		"opt/go/bin/go": file("ELF"),
		"opt/go/go.env": file("# defaults\nGOPROXY=https://proxy.go.test,direct\nGOSUMDB=sum.go.test\n"),
		"opt/go/src/cmd/go/internal/modfetch/key.go": file("var knownGOSUMDB = map[string]string{\n\t\"sum.go.test\": \"sum.go.test+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8\",\n}\n"),
		"usr/local/bin/go":                           link("../../../opt/go/bin/go"),
		"usr/bin/npm":                                link("../lib/node_modules/npm/bin/npm-cli.js"),
		"usr/lib/node_modules/npm/bin/npm-cli.js":    file("#!"),
		"usr/lib/node_modules/npm/node_modules/@npmcli/config/lib/definitions/definitions.js": file("  registry: new Definition('registry', {\n    default: 'https://npm.test/',\n    type: url,\n"),
		"usr/bin/python3": file("ELF"),
		"usr/lib/python3/dist-packages/pip/_internal/models/index.py": file("PyPI = PackageIndex(\"https://py.test/\", file_storage_domain=\"files.py.test\")\nTestPyPI = PackageIndex(\n"),
		"etc/apt/sources.list":                      file("# deb http://no.test/ x y\ndeb [arch=amd64 signed-by=/k.gpg] http://deb.test/debian stable main contrib # why\ndeb-src http://deb.test/debian stable main\ndeb cdrom:[x]/ stable main\ndeb http://flat.test/ ./\n"),
		"etc/apt/sources.list.d/a.sources":          file("Types: deb deb-src\nURIs: http://deb.test/debian/ http://sec.test/debian-security\nSuites: stable\n stable-updates\nComponents: main\n\nEnabled: no\nTypes: deb\nURIs: http://off.test\nSuites: x\n"),
		"etc/apt/sources.list.d/a.sources.disabled": file("Types: deb\nURIs: http://off.test\nSuites: x\n"),
	}, "PATH=/usr/local/bin:/usr/bin", "HOME=/root")
	want := []string{
		"go https://proxy.go.test", "npm https://npm.test", "pypi https://py.test/simple files files.py.test",
		"debian http://deb.test/debian suites stable,stable-updates components main,contrib", "debian http://flat.test",
		"debian http://sec.test/debian-security suites stable,stable-updates components main",
	}
	if got := described(u); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if u.GoProxy != "https://proxy.go.test,direct" || u.GoSumDB != "sum.go.test" || u.Sum.Name != "sum.go.test" || !strings.HasPrefix(u.Sum.Key, "sum.go.test+033de0ae+") {
		t.Errorf("go has %q, %q, %+v", u.GoProxy, u.GoSumDB, u.Sum)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "cdrom") {
		t.Errorf("got the notes %q", notes)
	}
}

// TestDiscoverOwn finds the registries and credentials of an organisation, in the clients' own order.
func TestDiscoverOwn(t *testing.T) {
	t.Parallel()
	u, _ := discover(fstest.MapFS{
		"opt/go/go.env":             file("GOPROXY=https://default.test\nGOSUMDB=sum.default.test\n"),
		"root/.config/go/env":       file("GOPROXY=https://me:secret@go.corp.test/mod|https://second.test,file:///srv,direct\nGOPRIVATE=corp.test\n"),
		"root/.npmrc":               file("; mine\nregistry = https://npm.corp.test/all/\n@acme:registry=https://npm.acme.test/\n@none:registry=ftp://x\n//npm.corp.test/:_authToken=short\n//npm.corp.test/all/:_authToken=${TOKEN}\n//npm.acme.test/:_auth=dTpw\n"),
		"etc/npmrc":                 file("registry=https://other.test/\n@acme:registry=https://other.test/\n"),
		"root/.config/pip/pip.conf": file("[list]\nindex-url = https://no.test\n[global]\nindex-url = https://py.corp.test/simple/\nextra-index-url =\n  https://u:p@one.test/simple\n  https://two.test/simple\n"),
		"root/.netrc":               file("machine py.corp.test\n  login robot\n  password hunter2\nmachine deb.corp.test/debian login a password b\ndefault login x password y\n"),
		"root/.cargo/config.toml":   file("[source.crates-io]\nreplace-with = \"corp\"\n[source.corp]\nregistry = \"sparse+https://cargo.corp.test/index/\" # ours\n[registries.git]\nindex = \"https://git.test/index\"\n"),
		"etc/apt/sources.list":      file("deb https://deb.corp.test/debian stable main\ndeb https://deb.corp.test/other stable main\n"),
	}, "HOME=/root", "GOROOT=/opt/go", "TOKEN=long", "GOSUMDB=sum.corp.test+0123abcd+AAAA https://sum.corp.test")
	want := []string{
		"go https://go.corp.test/mod Basic bWU6c2VjcmV0", "go https://second.test",
		"npm https://npm.corp.test/all Bearer long", "npm https://npm.acme.test scopes @acme Basic dTpw",
		"pypi https://py.corp.test/simple Basic cm9ib3Q6aHVudGVyMg==", "pypi https://one.test/simple Basic dTpw", "pypi https://two.test/simple",
		"cargo https://cargo.corp.test/index",
		"debian https://deb.corp.test/debian suites stable components main Basic YTpi", "debian https://deb.corp.test/other suites stable components main",
	}
	if got := described(u); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if u.GoProxy != "https://go.corp.test/mod|https://second.test,direct,direct" || u.GoNoSumDB != "corp.test" || u.Sum.Name != "sum.corp.test" || u.Sum.Key != "sum.corp.test+0123abcd+AAAA" {
		t.Errorf("go has %q, %q, %+v", u.GoProxy, u.GoNoSumDB, u.Sum)
	}
}

func TestDiscoverNothing(t *testing.T) {
	t.Parallel()
	u, _ := discover(fstest.MapFS{"root/.npmrc": file("registry=javascript:alert(1)\n=\n//\n"), "etc/apt/sources.list": file("deb [\ndeb\ndeb [x\n"), "root/.netrc": file("machine")}, "HOME=/root", "PATH=relative::/x", "GOPROXY=off", "GOSUMDB=off")
	if len(u.List) != 0 || u.Sum.Name != "" {
		t.Errorf("got %q", described(u))
	}
}

func TestEnv(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(firewall.KindNPM, "https://npm.test/all")
	w.add(firewall.KindNPM, "https://acme.test").Scopes = []string{"@acme"}
	w.add(firewall.KindPyPI, "https://py.test/simple")
	w.add(firewall.KindPyPI, "https://more.test/simple")
	w.upstreams.GoProxy, w.upstreams.GoSumDB, w.upstreams.GoNoSumDB = "https://a.test|https://b.test,direct", "sum.test", "corp.test"
	w.open()
	var got []string
	for _, e := range w.f.Env() {
		got = append(got, e.Name+"="+e.Value)
	}
	want := []string{"GOPROXY=https://a.test|https://b.test", "GOSUMDB=sum.test", "GONOSUMDB=corp.test", "npm_config_registry=https://npm.test/all/", "npm_config_@acme:registry=https://acme.test/",
		"PIP_INDEX_URL=https://py.test/simple/", "PIP_EXTRA_INDEX_URL=https://more.test/simple/", "UV_DEFAULT_INDEX=https://py.test/simple/", "UV_INDEX=https://more.test/simple/"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestOperatorsFile(t *testing.T) {
	t.Parallel()
	h := firewall.Host{FS: fstest.MapFS{"h/.npmrc": file("registry=https://npm.test/\n//npm.corp.test/:_authToken=abc\n"), "etc/pip.conf": file("[global]\nindex-url=https://py.test/simple\n")},
		Env: func(name string) string {
			return map[string]string{"HOME": "/h", "GOPROXY": "https://go.test,direct"}[name]
		}}
	u, _, err := firewall.DiscoverWith(h, []byte("go: [https://a.test, https://b.test/x/]\nsumdb: sum.test+0123abcd+AAAA\nnpm:\n  - url: https://npm.corp.test\n    scopes: ['@acme']\ndebian: []\nredirects: [CDN.test]\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"pypi https://py.test/simple", "go https://a.test", "go https://b.test/x", "npm https://npm.corp.test scopes @acme Bearer abc"}
	if got := described(u); !slices.Equal(got, want) || u.GoProxy != "https://a.test,https://b.test/x" || u.Sum.Name != "sum.test" || !slices.Equal(u.Redirects, []string{"cdn.test"}) {
		t.Errorf("got %q and %+v", got, u)
	}
	for _, bad := range []string{"gopher: [x]", "go: https://a.test", "go: [ftp://a.test]", "pypi: ['https://u:secret@[::1']", "npm: [{url: 'javascript:1'}]"} {
		if _, _, err := firewall.DiscoverWith(h, []byte(bad)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
