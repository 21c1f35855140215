package firewall

import (
	"bytes"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/mod/module"
)

func FuzzPackument(f *testing.F) {
	f.Add([]byte(`{"name":"a","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"dist":{"integrity":"sha512-x","tarball":"http://a/a-1.0.0.tgz"},"deprecated":"x"},"2.0.0":{}},"time":{"created":"2020-01-01T00:00:00Z","1.0.0":"2020-01-01T00:00:00.000Z"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parsePackument(raw, "a")
		if err != nil {
			return
		}
		p.of(version{kind: KindNPM, name: "a", version: "1.0.0"})
		if shown, err := without(raw, map[string]bool{"2.0.0": true}); err == nil && shown != nil {
			again, err := parsePackument(shown, "a")
			if err != nil {
				t.Fatalf("what is shown cannot be read: %v", err)
			}
			if _, ok := again.versions["2.0.0"]; ok {
				t.Error("a hidden version is shown")
			}
		}
	})
}

func FuzzProject(f *testing.F) {
	f.Add([]byte(`{"meta":{"api-version":"1.1"},"name":"a","files":[{"filename":"a-1.0.tar.gz","url":"../a-1.0.tar.gz","hashes":{"sha256":"00"},"yanked":"x","upload-time":"2020-01-01T00:00:00Z"}]}`), true)
	f.Add([]byte(`<base href="http://b"><a href="a-1.0-py3-none-any.whl#sha256=00" data-yanked data-requires-python='&gt;3'>a-1.0-py3-none-any.whl</a><!-- <a`), false)
	at := &url.URL{Scheme: "http", Host: "py.test", Path: "/simple/a/"}
	f.Fuzz(func(t *testing.T, raw []byte, form bool) {
		kind := "text/html"
		if form {
			kind = simpleJSON
		}
		p, err := parseProject(raw, kind, "a", at)
		if err != nil {
			return
		}
		for kind, body := range map[string][]byte{simpleJSON: p.json(), "text/html": p.html()} {
			again, err := parseProject(body, kind, "a", at)
			if err != nil || len(again.files) != len(p.files) {
				t.Fatalf("%d files became %v, %v:\n%s", len(p.files), again, err, body)
			}
			for i, f := range again.files {
				if o := p.files[i]; f.url.String() != o.url.String() || f.version != o.version || (f.yanked == "") != (o.yanked == "") {
					t.Errorf("%+v became %+v", o, f)
				}
			}
		}
	})
}

func FuzzCrate(f *testing.F) {
	f.Add([]byte(`{"name":"a","vers":"1.0.0","cksum":"00","yanked":false}`+"\n"), []byte(`{"dl":"http://dl.test/{crate}/{version}"}`))
	f.Fuzz(func(t *testing.T, index, config []byte) {
		if list, err := parseCrate(index, "a"); err == nil {
			for _, c := range list {
				if !strings.EqualFold(c.Name, "a") || bytes.ContainsAny(c.line, "\n") {
					t.Errorf("got the line %q", c.line)
				}
			}
		}
		if _, host, places, err := parseCrateConfig(config); err == nil && (host == "" || places == nil) {
			t.Errorf("got no host or places from %q", config)
		}
	})
}

func FuzzDebian(f *testing.F) {
	f.Add([]byte("SHA256:\n "+strings.Repeat("0", 64)+" 1 main/binary-amd64/Packages.gz\n"), []byte("Package: a\nVersion: 1\nFilename: pool/a.deb\nSHA256: "+strings.Repeat("0", 64)+"\n\n"))
	f.Fuzz(func(t *testing.T, rel, packages []byte) {
		if r, err := parseRelease(bytes.NewReader(rel)); err == nil {
			r.indexes("pool/main/a.deb", architectures())
		}
		if x, err := openXZ(bytes.NewReader(packages)); err == nil {
			_, _ = parsePackages(io.LimitReader(x, 16<<20))
		}
		list, err := parsePackages(bytes.NewReader(packages))
		for path := range list {
			if err == nil && (strings.HasPrefix(path, "/") || strings.Contains("/"+path+"/", "/../")) {
				t.Errorf("the path %q leads out", path)
			}
		}
	})
}

func FuzzGo(f *testing.F) {
	f.Add([]byte("v1.0.0\nv1.1.0\n"), []byte(`{"Version":"v1.0.0","Time":"2020-01-01T00:00:00Z"}`), []byte("PK\x05\x06"+strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, list, info, archive []byte) {
		_, _ = parseGoList(list)
		_, _ = parseGoInfo(info)
		file := filepath.Join(t.TempDir(), "m.zip")
		if err := os.WriteFile(file, archive, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = hashModule(module.Version{Path: "example.com/m", Version: "v1.0.0"}, file)
	})
}

func FuzzDiscover(f *testing.F) {
	f.Add("registry=https://a.test\n//a.test/:_authToken=x\n", "machine a login b password c", "[global]\nindex-url=https://a.test\n", "deb [a=b] http://a.test x y\n")
	f.Fuzz(func(t *testing.T, npmrc, netrc, pip, apt string) {
		Discover(Host{FS: fstest.MapFS{"h/.npmrc": {Data: []byte(npmrc)}, "h/.netrc": {Data: []byte(netrc)}, "etc/pip.conf": {Data: []byte(pip)}, "etc/apt/sources.list": {Data: []byte(apt)},
			"etc/apt/sources.list.d/a.sources": {Data: []byte(apt)}, "h/.cargo/config.toml": {Data: []byte(pip)}, "h/.config/go/env": {Data: []byte(npmrc)}}, Env: func(name string) string { return map[string]string{"HOME": "/h"}[name] }})
	})
}

func FuzzPaths(f *testing.F) {
	f.Add("/a/../b")
	f.Fuzz(func(t *testing.T, path string) {
		if !safePath(path) {
			return
		}
		if plain, err := url.PathUnescape(path); err == nil {
			for part := range strings.SplitSeq(plain, "/") {
				if part == ".." {
					t.Errorf("%q leads up", path)
				}
			}
		}
	})
}
