package firewall_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

// archive serves an apt archive that somebody signed.
type archive struct {
	debs  map[string][]byte // by path
	index string
	tight bool // it has no index that gzip packed
	files map[string][]byte
}

func (a *archive) build() {
	arch := debArch()
	var plain bytes.Buffer
	for path, body := range a.debs {
		name, rest, _ := strings.Cut(path[strings.LastIndexByte(path, '/')+1:], "_")
		number, _, _ := strings.Cut(rest, "_")
		fmt.Fprintf(&plain, "Package: %s\nVersion: 1:%s\nArchitecture: %s\nFilename: %s\nSize: %d\nDescription: text\n that goes on\nSHA256: %s\n\n", name, number, arch, path, len(body), sha256Hex(body))
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(plain.Bytes())
	z.Close()
	a.index = "main/binary-" + arch + "/Packages"
	var tight bytes.Buffer
	x, err := xz.NewWriter(&tight)
	if err != nil {
		panic(err)
	}
	x.Write(plain.Bytes())
	x.Close()
	a.files = map[string][]byte{a.index: plain.Bytes(), a.index + ".gz": packed.Bytes(), a.index + ".xz": tight.Bytes(), "main/i18n/Translation-en.xz": []byte("words")}
	if a.tight {
		delete(a.files, a.index+".gz")
	}
	a.sign()
}

// sign makes a Release file of what there is.
func (a *archive) sign() {
	release := "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: Test\nSuite: stable\nCodename: stable\nDate: Sun, 01 Nov 2026 00:00:00 UTC\nArchitectures: " + debArch() + "\nComponents: main\nMD5Sum:\n 00000000000000000000000000000000 1 main/x\nSHA256:\n"
	for name, body := range a.files {
		release += fmt.Sprintf(" %s %d %s\n", sha256Hex(body), len(body), name)
	}
	a.files["InRelease"] = []byte(release + "-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n")
}

func debArch() string {
	if runtime.GOARCH == "386" {
		return "i386"
	}
	return runtime.GOARCH
}

func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/debian/")
	body, ok := a.debs[path]
	if below, index := strings.CutPrefix(path, "dists/stable/"); index {
		body, ok = a.files[below]
		if _, sum, by := strings.Cut(below, "/by-hash/SHA256/"); by {
			for _, f := range a.files {
				if sha256Hex(f) == sum {
					body, ok = f, true
				}
			}
		}
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	if path == "dists/stable/"+a.index { // named, and not there
		http.NotFound(w, r)
		return
	}
	w.Write(body)
}

func withDebian(t *testing.T, suites ...string) (*world, *archive) {
	w := newWorld(t)
	a := &archive{debs: map[string][]byte{"pool/main/h/hello/hello_2.10-3_" + debArch() + ".deb": []byte("hello"), "pool/main/e/evil/evil_1.0_" + debArch() + ".deb": []byte("evil")}}
	a.build()
	w.hosts["deb.test"] = a
	w.add(firewall.KindDebian, "http://deb.test/debian").Suites = suites
	return w, a
}

func TestDebian(t *testing.T) {
	t.Parallel()
	w, a := withDebian(t)
	j := w.open("Debian evil")
	hello := "http://deb.test/debian/pool/main/h/hello/hello_2.10-3_" + debArch() + ".deb"
	wantRefused(t, get(j, hello), "in no index")
	wantRefused(t, get(j, "http://deb.test/debian/dists/stable/main/i18n/Translation-en.xz"), "Release file was not asked for first")
	wantBody(t, get(j, "http://deb.test/debian/dists/stable/InRelease"), a.files["InRelease"])
	for name, body := range a.files {
		if name == "InRelease" || name == a.index {
			continue
		}
		wantBody(t, get(j, "http://deb.test/debian/dists/stable/"+name), body)
		dir := name[:strings.LastIndexByte(name, '/')]
		wantBody(t, get(j, "http://deb.test/debian/dists/stable/"+dir+"/by-hash/SHA256/"+sha256Hex(body)), body)
	}
	wantBody(t, get(j, hello), []byte("hello"))
	wantRefused(t, get(j, "http://deb.test/debian/pool/main/e/evil/evil_1.0_"+debArch()+".deb"), "malicious")
	wantRefused(t, get(j, "http://deb.test/debian/pool/main/n/none/none_1.0_"+debArch()+".deb"), "in no index")
	wantRefused(t, get(j, "http://deb.test/debian/dists/stable/main/none"), "does not name")
	for _, path := range []string{"dists/stable/../../secret", "pool/main/h/hello/hello_2.10.dsc", "project/trace", "pool//main/x.deb", "dists/stable/main/by-hash/SHA256/zz"} {
		wantRefused(t, get(j, "http://deb.test/debian/"+path))
	}
	got := w.recorded()
	if len(got) < 2 || got[len(got)-2].PURL != "pkg:deb/debian/hello@1:2.10-3?arch="+debArch() && got[0].PURL != "pkg:deb/debian/hello@1:2.10-3?arch="+debArch() || got[0].Digest != sallyport.DigestOf([]byte("hello")) {
		t.Errorf("got the records %+v", got)
	}
}

// TestDebianChecksums changes what lies in an archive under its signed names.
func TestDebianChecksums(t *testing.T) {
	t.Parallel()
	w, a := withDebian(t, "stable") // as the host's configuration has it: apt need not ask for indexes first
	hello := "pool/main/h/hello/hello_2.10-3_" + debArch() + ".deb"
	j := w.open()
	a.tight = true
	a.build()
	wantBody(t, get(j, "http://deb.test/debian/"+hello), []byte("hello"))
	a.debs["pool/main/e/evil/evil_1.0_"+debArch()+".deb"] = []byte("swapped")
	wantRefused(t, get(j, "http://deb.test/debian/pool/main/e/evil/evil_1.0_"+debArch()+".deb"), "sha256 checksum is not the one")
	a.files["main/i18n/Translation-en.xz"] = []byte("other words")
	wantRefused(t, get(j, "http://deb.test/debian/dists/stable/main/i18n/Translation-en.xz"), "not the one that its Release file names")
	// A new signed index makes it good.
	a.debs[hello] = []byte("hello again")
	a.build()
	w.later(firewallPage)
	wantBody(t, get(j, "http://deb.test/debian/"+hello), []byte("hello again"))
}
