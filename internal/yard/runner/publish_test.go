package runner

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/door"
	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

// publishing is a registry of npm's and one of Python's that take nothing that is not as
// it should be: who sends it, under which name, and that the bytes are those that are promised.
type publishing struct {
	npm, pypi string // the credentials

	mu      sync.Mutex
	taken   []string // NAME@VERSION
	refused []string // METHOD HOST PATH: why
}

func (p *publishing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	take, status, why := "", http.StatusNotFound, "there is nothing here"
	switch {
	case host == "npm.example.com" && r.Method == http.MethodPut:
		take, status, why = p.putNPM(r)
	case host == "upload.example.com" && r.Method == http.MethodPost:
		take, status, why = p.postPyPI(r)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if take != "" && slices.Contains(p.taken, take) {
		status, why = http.StatusForbidden, "that version is there already"
	} else if take != "" {
		p.taken = append(p.taken, take)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"ok":true,"success":true}`)
		return
	}
	p.refused = append(p.refused, fmt.Sprintf("%s %s %s: %s", r.Method, host, r.URL.EscapedPath(), why))
	http.Error(w, fmt.Sprintf(`{"error":%q}`, why), status)
}

func (p *publishing) putNPM(r *http.Request) (take string, status int, why string) {
	if r.Header.Get("Authorization") != "Bearer "+p.npm {
		return "", http.StatusUnauthorized, "who are you?"
	}
	var doc struct {
		Name        string
		DistTags    map[string]string `json:"dist-tags"`
		Attachments map[string]struct {
			Data   string
			Length int
		} `json:"_attachments"`
		Versions map[string]struct {
			Name, Version string
			Dist          struct{ Integrity, Tarball string }
		}
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 8<<20)).Decode(&doc); err != nil {
		return "", http.StatusBadRequest, err.Error()
	}
	if r.URL.Path != "/"+doc.Name || r.URL.EscapedPath() != "/"+strings.Replace(doc.Name, "/", "%2F", 1) && r.URL.EscapedPath() != "/"+strings.Replace(doc.Name, "/", "%2f", 1) {
		return "", http.StatusBadRequest, "the path is not the package's"
	}
	if len(doc.Versions) != 1 || len(doc.Attachments) == 0 {
		return "", http.StatusBadRequest, "it is not one version"
	}
	for version, v := range doc.Versions {
		a, ok := doc.Attachments[fmt.Sprintf("%s-%s.tgz", doc.Name, version)]
		data, err := base64.StdEncoding.DecodeString(a.Data)
		sum := sha512.Sum512(data)
		if !ok || err != nil || len(data) != a.Length || v.Name != doc.Name || v.Version != version || doc.DistTags["latest"] != version ||
			v.Dist.Integrity != "sha512-"+base64.StdEncoding.EncodeToString(sum[:]) {
			return "", http.StatusBadRequest, "the archive is not what the document says"
		}
		take = doc.Name + "@" + version
	}
	return take, 0, ""
}

// postPyPI takes the form in which packages are uploaded to an index of Python's.
func (p *publishing) postPyPI(r *http.Request) (take string, status int, why string) {
	if user, password, _ := r.BasicAuth(); user != "__token__" || password != p.pypi {
		return "", http.StatusForbidden, "who are you?"
	}
	if r.URL.Path != "/legacy/" || r.ParseMultipartForm(8<<20) != nil || r.FormValue(":action") != "file_upload" || r.FormValue("protocol_version") != "1" {
		return "", http.StatusBadRequest, "it is no upload"
	}
	f, head, err := r.FormFile("content")
	if err != nil {
		return "", http.StatusBadRequest, "there is no file"
	}
	defer f.Close()
	data, _ := io.ReadAll(f)
	sum := sha256.Sum256(data)
	if r.FormValue("sha256_digest") != hex.EncodeToString(sum[:]) || head.Filename != fmt.Sprintf("%s-%s-py3-none-any.whl", r.FormValue("name"), r.FormValue("version")) {
		return "", http.StatusBadRequest, "the file is not what the form says"
	}
	return r.FormValue("name") + "@" + r.FormValue("version"), 0, ""
}

// pypiUpload uploads as twine does.
const pypiUpload = `
import sys, os, base64, hashlib, urllib.request
name, version, body = 'acme_tool', sys.argv[2], b'PK a wheel'
fields = {':action': 'file_upload', 'protocol_version': '1', 'name': name, 'version': version, 'metadata_version': '2.1', 'filetype': 'bdist_wheel', 'pyversion': 'py3', 'sha256_digest': hashlib.sha256(body).hexdigest()}
edge = 'edge-of-parts'
out = b''.join(b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (edge.encode(), k.encode(), v.encode()) for k, v in fields.items())
out += b'--%s\r\nContent-Disposition: form-data; name="content"; filename="%s-%s-py3-none-any.whl"\r\nContent-Type: application/octet-stream\r\n\r\n%s\r\n--%s--\r\n' % (edge.encode(), name.encode(), version.encode(), body, edge.encode())
auth = base64.b64encode(('__token__:' + os.environ['TWINE_PASSWORD']).encode()).decode()
try:
    print('pypi', urllib.request.urlopen(urllib.request.Request(sys.argv[1], out, {'Content-Type': 'multipart/form-data; boundary=' + edge, 'Authorization': 'Basic ' + auth})).status)
except urllib.error.HTTPError as e:
    print('pypi', e.code)
`

// TestPackagesArePublishedWithoutACredential publishes with the real npm, and uploads as Python's
// tools do, from a room that holds placeholders: to the very host from which the firewall
// lets it fetch packages and from nowhere else. The controls: without the rules nothing is published,
// and the registries take no other value than their own.
func TestPackagesArePublishedWithoutACredential(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"npm", "python3"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s for the job", tool)
		}
	}
	tokens := map[string]string{"npm": newCanary("npm"), "upload": newCanary("pypi")}
	reg := &publishing{npm: tokens["npm"], pypi: tokens["upload"]}
	server := httptest.NewTLSServer(reg)
	t.Cleanup(server.Close)
	port := int(netip.MustParseAddrPort(server.Listener.Addr().String()).Port())
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	rules := []sallyport.CredentialRule{
		{Name: "npm", Secret: "NPM", Kind: sallyport.CredentialBearer, Host: "npm.example.com", Port: port, Methods: []string{"PUT"}, Paths: []string{"/@acme/tool", "/acme-tool"}},
		{Name: "upload", Secret: "UPLOAD", Kind: sallyport.CredentialBasic, User: "__token__", Host: "upload.example.com", Port: port, Methods: []string{"POST"}, Paths: []string{"/legacy/"}},
	}
	script := strings.ReplaceAll(steps(`
- env: {NPM_TOKEN: "${{ secrets.NPM }}", TWINE_PASSWORD: "${{ secrets.UPLOAD }}"}
  run: |
    cat > upload.py <<'EOF'
`+indent(pypiUpload, 4)+`
    EOF
    echo "//npm.example.com:PORT/:_authToken=${NPM_TOKEN:-none}" > ~/.npmrc
    publish() {
      rm -rf p; mkdir p; printf '{"name":"%s","version":"%s"}' "$1" "$2" > p/package.json; echo content > p/index.js
      if (cd p && npm publish --access public --registry https://npm.example.com:PORT/ > ../out 2>&1); then echo "$1 $2 is published"; else echo "$1 $2 is not"; grep -i 'npm error' out | head -4; fi
    }
    publish acme-tool 1.0.0
    publish @acme/tool 1.0.0
    publish acme-tool 1.0.0
    publish victim 1.0.0
    python3 upload.py https://upload.example.com:PORT/legacy/ 1.0
    python3 upload.py https://upload.example.com:PORT/legacy/ 1.0
    python3 upload.py https://upload.example.com:PORT/admin/ 2.0
`), "PORT", fmt.Sprint(port))

	run := func(t *testing.T, rules []sallyport.CredentialRule, values map[string]string) ended {
		yard := &recordingYard{fakeYard: newFakeYard()}
		tr := trial{yard: yard.fakeYard, secrets: map[string]string{}, yaml: script}
		lease := tr.lease(t)
		lease.Egress = sallyport.EgressRules{Level: sallyport.EgressRegistries, Credentials: rules}
		for _, r := range rules {
			l := sallyport.LentSecret{Secret: r.Secret, Value: values[r.Name], Placeholder: "lent-placeholder-of-" + r.Name}
			lease.Lent = append(lease.Lent, l)
			lease.Secrets[l.Secret] = l.Placeholder
		}
		here := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		dialer := &door.Dialer{Private: door.Private{Hosts: map[string][]netip.Addr{"npm.example.com": here, "upload.example.com": here}}}
		npm := url.URL{Scheme: "https", Host: fmt.Sprintf("npm.example.com:%d", port)}
		upstreams, _, err := firewall.DiscoverWith(firewall.Host{FS: os.DirFS("/"), Env: func(string) string { return "" }}, fmt.Appendf(nil, "npm: [{url: %q}]\ngo: []\npypi: []\ndebian: []\n", npm.String()))
		if err != nil {
			t.Fatal(err)
		}
		packages, err := firewall.New(firewall.Config{Upstreams: upstreams, Transport: dialer.Transport(roots), CacheDir: t.TempDir(), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		r := newTestRunner(t, yard, realSandbox(t), func(c *Config) { c.Path, c.Egress = "", Egress{Dialer: dialer, Firewall: packages, Roots: roots} })
		r.layout = newLayout
		r.do(t.Context(), lease)
		e := ended{JobResult: <-yard.result, lines: decodeLog(t, yard.log), yard: yard.fakeYard}
		if strings.Contains(e.all(), canaryMark) {
			t.Error("a value is in the log")
		}
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(e.all(), reg.taken, reg.refused)
			}
		})
		return e
	}

	run(t, nil, nil)
	if len(reg.taken) > 0 || slices.ContainsFunc(reg.refused, func(s string) bool { return strings.HasPrefix(s, "P") }) {
		t.Errorf("without a rule: took %q, saw %q", reg.taken, reg.refused)
	}
	run(t, rules, map[string]string{"npm": newCanary("another"), "upload": newCanary("another")})
	if who := strings.Count(strings.Join(reg.refused, "\n"), "who are you?"); len(reg.taken) > 0 || who < 5 {
		t.Errorf("with other values: took %q, asked %d times who it is", reg.taken, who)
	}
	reg.refused = nil
	text := run(t, rules, tokens).text()
	for _, want := range []string{"acme-tool 1.0.0 is published\n", "@acme/tool 1.0.0 is published\n", "acme-tool 1.0.0 is not\n", "victim 1.0.0 is not\n", "pypi 201\npypi 403\npypi 403\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if want := []string{"acme-tool@1.0.0", "@acme/tool@1.0.0", "acme_tool@1.0"}; !slices.Equal(reg.taken, want) {
		t.Errorf("took %q, want %q", reg.taken, want)
	}
	if refused := strings.Join(reg.refused, "\n"); strings.Contains(refused, "PUT npm.example.com /victim") || strings.Contains(refused, "/admin/") {
		t.Errorf("what no rule allows reached a registry:\n%s", refused)
	}
}
