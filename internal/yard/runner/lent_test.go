package runner

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
	"github.com/sallyport-ci/sallyport/internal/yard/door"
)

// recordingYard keeps what doors hand in.
type recordingYard struct {
	*fakeYard
	mu   sync.Mutex
	seen sallyport.DoorRecord
}

func (y *recordingYard) Record(_ context.Context, _ sallyport.LeaseRef, _ int, r sallyport.DoorRecord) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.seen.Add(r)
	return nil
}

// A canary begins with a mark that the scanner knows, and is told by the digest of the
// whole: the scanner's own memory does not hold what it looks for.
const (
	canaryMark   = "cnrY9x"
	canaryLength = 40
)

func newCanary(name string) string {
	sum := sha256.Sum256([]byte("canary of " + name))
	return canaryMark + hex.EncodeToString(sum[:])[:canaryLength-len(canaryMark)]
}

// roomScanner looks for canaries in the memory, environment and command line of every process of
// the room, and in every file that it may write. It prints what it finds by number.
const roomScanner = `
import os, sys, re, hashlib
length, wanted = int(sys.argv[2]), sys.argv[3:]
mark = bytes.fromhex(sys.argv[1])
looked, found = 0, set()
def look(data, where):
    for m in re.finditer(re.escape(mark), data):
        d = hashlib.sha256(data[m.start():m.start()+length]).hexdigest()
        if d in wanted:
            found.add((wanted.index(d), where))
for pid in filter(str.isdigit, os.listdir('/proc')):
    for part in 'environ', 'cmdline':
        try:
            look(open('/proc/%s/%s' % (pid, part), 'rb').read(), part)
        except OSError:
            pass
    try:
        maps, mem = open('/proc/%s/maps' % pid).read(), open('/proc/%s/mem' % pid, 'rb', 0)
    except OSError:
        continue
    for line in maps.splitlines():
        span, mode = line.split()[:2]
        if mode[0] != 'r' or '[v' in line:
            continue
        a, b = (int(x, 16) for x in span.split('-'))
        tail = b''
        for at in range(a, b, 1 << 20):
            try:
                mem.seek(at); data = mem.read(min(1 << 20, b - at))
            except (OSError, ValueError, OverflowError):
                break
            looked += len(data)
            look(tail + data, 'memory')
            tail = data[-length:]
for top in '/home', '/tmp', '/sallyport', '/run', '/var/tmp', '/dev/shm', '/etc':
    for dir, _, names in os.walk(top):
        for name in names:
            path = os.path.join(dir, name)
            try:
                if os.path.isfile(path) and not os.path.islink(path):
                    look(open(path, 'rb').read(8 << 20), 'a file')
            except OSError:
                pass
print('looked through %d KiB of memory' % (looked >> 10) if looked > 1 << 20 else 'looked through nothing')
for f in sorted(found):
    print('found canary %d in %s' % f)
print('scan done')
`

// world is what stands outside: a git server, a store of objects, an API that sends back what it gets.
type world struct {
	server *httptest.Server
	s3     *sallyporttest.S3
	db     *sallyporttest.Shop
	port   int
	repo   string
	git    string // its credential
	scan   func() string
}

func newWorld(t *testing.T, gitSecret, s3Secret, dbSecret string) *world {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Skip("there is no git")
	}
	w := &world{git: gitSecret, repo: t.TempDir(), s3: &sallyporttest.S3{ID: "AKIDREAL", Key: s3Secret, Region: "eu-central-1"}, db: sallyporttest.NewShop(t, dbSecret, false)}
	for _, args := range [][]string{{"init", "-q", "--bare", "-b", "main", "app.git"}, {"-C", "app.git", "config", "http.receivepack", "true"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = w.repo
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	backend := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + w.repo, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + w.repo}}
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch host, _, _ := strings.Cut(r.Host, "."); host {
		case "git":
			if user, password, _ := r.BasicAuth(); user != "bot" || password != w.git {
				http.Error(rw, "who are you?", http.StatusUnauthorized)
				return
			}
			backend.ServeHTTP(rw, r)
		case "s3":
			w.s3.ServeHTTP(rw, r)
		default: // echoes what it was sent, and lets the test look at the room
			if r.URL.Path == "/echo/scan" {
				io.WriteString(rw, w.scan())
				return
			}
			fmt.Fprintf(rw, "you sent %q", r.Header["Authorization"])
		}
	}))
	w.server.EnableHTTP2 = true
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	w.port = w.server.Listener.Addr().(*net.TCPAddr).Port
	return w
}

// TestJobsUseCredentialsTheyDoNotHold is the whole of it in a real room: a job pushes to a git
// server, uploads to a store of objects and queries a database, and neither from inside, as the
// room's root, nor from outside is a credential to be found in the room. A control in the same
// job, a secret that a rule exposes, is found by both searches.
func TestJobsUseCredentialsTheyDoNotHold(t *testing.T) {
	for _, tool := range []string{"python3", "curl", "psql", "git"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s for the job", tool)
		}
	}
	box := realSandbox(t)
	names := []string{"git", "s3", "db", "api", "open"}
	canaries := map[string]string{}
	var digests []string
	for _, n := range names {
		canaries[n] = newCanary(n)
		sum := sha256.Sum256([]byte(canaries[n]))
		digests = append(digests, hex.EncodeToString(sum[:]))
	}
	w := newWorld(t, canaries["git"], canaries["s3"], canaries["db"])
	rule := func(name string, kind sallyport.CredentialKind, change func(*sallyport.CredentialRule)) sallyport.CredentialRule {
		r := sallyport.CredentialRule{Name: name, Secret: strings.ToUpper(name), Kind: kind, Host: name + ".example.com", Port: w.port}
		change(&r)
		return r
	}
	rules := sallyport.EgressRules{Level: sallyport.EgressListed, Credentials: []sallyport.CredentialRule{
		rule("git", sallyport.CredentialBasic, func(r *sallyport.CredentialRule) {
			r.User, r.Methods, r.Paths = "bot", []string{"GET", "POST"}, []string{"/app.git/"}
		}),
		rule("s3", sallyport.CredentialAWS, func(r *sallyport.CredentialRule) {
			r.User, r.Region, r.Service, r.Methods, r.Paths = "AKIDREAL", "eu-central-1", "s3", []string{"GET", "PUT"}, []string{"/bucket/team/"}
		}),
		rule("db", sallyport.CredentialPostgres, func(r *sallyport.CredentialRule) { r.User, r.Database, r.Port = "app", "shop", w.db.Port }),
		rule("api", sallyport.CredentialBearer, func(r *sallyport.CredentialRule) { r.Paths = []string{"/echo"} }),
		rule("open", sallyport.CredentialBearer, func(r *sallyport.CredentialRule) { r.Expose = true }),
	}}
	yard := &recordingYard{fakeYard: newFakeYard()}
	tr := trial{yard: yard.fakeYard, secrets: map[string]string{}, yaml: steps(strings.NewReplacer(
		"PORT", strconv.Itoa(w.port), "DBP", strconv.Itoa(w.db.Port), "SCAN", "python3 scan.py "+hex.EncodeToString([]byte(canaryMark))+" "+strconv.Itoa(canaryLength)+" "+strings.Join(digests, " "),
	).Replace(`
- name: use them
  env: {TOKEN: "${{ secrets.GIT }}", PGPASSWORD: "${{ secrets.DB }}"}
  run: |
    git config --global user.email a@example.com; git config --global user.name a
    git init -q -b main w; cd w; echo pushed > f; git add f; git commit -q -m one
    git push -q "https://anybody:$TOKEN@git.example.com:PORT/app.git" main && echo pushed
    git clone -q https://git.example.com:PORT/app.git ../again && cat ../again/f
    if git ls-remote https://git.example.com:PORT/other.git 2> err; then echo got other; else grep -o 403 err | head -1; fi
    curl -sS -f --aws-sigv4 aws:amz:eu-central-1:s3 --user DUMMY:dummy -T f https://s3.example.com:PORT/bucket/team/f && echo uploaded
    curl -sS -f --aws-sigv4 aws:amz:eu-central-1:s3 --user DUMMY:dummy https://s3.example.com:PORT/bucket/team/f
    curl -sS --aws-sigv4 aws:amz:eu-central-1:s3 --user DUMMY:dummy https://s3.example.com:PORT/bucket/secret/f
    psql -h db.example.com -p DBP -U anybody -d shop -Atc "SELECT n || ' for ' || session_user FROM items"
    curl -sS https://api.example.com:PORT/echo; echo
    curl -sS https://api.example.com:PORT/admin
- name: look for them
  env: {OPEN: "${{ secrets.OPEN }}"}
  run: |
    cat > scan.py <<'EOF'
` + strings.ReplaceAll(strings.TrimRight(roomScanner, "\n"), "\n", "\n    ") + `
    EOF
    (exec env -u OPEN sleep 1000) &
    (exec sleep 1000) &
    SCAN
    curl -sS -m 600 https://api.example.com:PORT/echo/scan
`))}
	lease := tr.lease(t)
	lease.Egress = rules
	lease.Secrets = map[string]string{}
	for _, n := range names {
		l := sallyport.LentSecret{Secret: strings.ToUpper(n), Value: canaries[n], Placeholder: "lent-placeholder-of-" + n}
		lease.Lent = append(lease.Lent, l)
		lease.Secrets[l.Secret] = l.Placeholder
	}
	lease.Secrets["OPEN"] = canaries["open"]

	roots := x509.NewCertPool()
	roots.AddCert(w.server.Certificate())
	here := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	private := door.Private{Hosts: map[string][]netip.Addr{}}
	for _, n := range names {
		private.Hosts[n+".example.com"] = here
	}
	r := newTestRunner(t, yard, box, func(c *Config) {
		c.Path, c.Egress = "", Egress{Dialer: &door.Dialer{Private: private}, Roots: roots}
	})
	r.layout = newLayout
	yard.leases <- lease
	w.scan = func() string { return scanRooms(canaries) }
	r.do(t.Context(), <-yard.leases)
	e := ended{JobResult: <-yard.result, lines: decodeLog(t, yard.log), yard: yard.fakeYard}
	text := e.text()
	if e.Conclusion != sallyport.Success {
		t.Errorf("%s: %s", e.Conclusion, e.Cause)
	}
	for _, want := range []string{"pushed\npushed\n403\nuploaded\npushed\n", "refused GET s3.example.com", "42 for app\n", "you sent [\"Bearer " + strings.Repeat("*", canaryLength) + "\"]\n",
		"refused GET api.example.com", "\nscan done\n", "looked through "} {
		if !strings.Contains(text, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if strings.Contains(text, "looked through nothing") {
		t.Error("the scan from inside saw no memory")
	}
	for _, m := range regexp.MustCompile(`found canary (\d+)`).FindAllStringSubmatch(text, -1) {
		if m[1] != "4" {
			t.Errorf("the job's own scan: %s, which is %s", m[0], names[m[1][0]-'0'])
		}
	}
	for _, control := range []string{"found canary 4 in environ\n", "found canary 4 in memory\n", "outside: found open in memory\n"} {
		if !strings.Contains(text, control) {
			t.Errorf("the control was not found: %q", control)
		}
	}
	for _, n := range names[:4] {
		if strings.Contains(text, "outside: found "+n) {
			t.Errorf("the scan from outside found %s", n)
		}
	}
	if got := string(w.s3.Object("/bucket/team/f")); got != "pushed\n" || len(w.s3.Refused()) > 0 {
		t.Errorf("the store has %q, refused %q", got, w.s3.Refused())
	}
	count := map[string]int{}
	for _, u := range yard.seen.Uses {
		count[u.Credential+" "+string(u.Decision)]++
	}
	for _, f := range yard.seen.Flows {
		if f.Decision == sallyport.EgressDenied {
			count[strings.TrimSuffix(f.Host, ".example.com")+" denied"] += f.Count
		}
	}
	for _, want := range []string{"git allowed", "git denied", "s3 allowed", "s3 denied", "db allowed", "api allowed", "api denied"} {
		if count[want] == 0 {
			t.Errorf("no use is recorded: %s of %v", want, count)
		}
	}
	if strings.Contains(e.all(), canaryMark) {
		t.Error("a value is in the log")
	}
	if t.Failed() {
		t.Log(e.all(), "\n", count)
	}
}

// scanRooms looks for canaries from outside, in the memory of the processes of other pid namespaces
// that descend from this process: those of its rooms.
func scanRooms(canaries map[string]string) string {
	var b strings.Builder
	mine, _ := os.Readlink("/proc/self/ns/pid")
	procs, _ := filepath.Glob("/proc/[0-9]*")
	looked := 0
	for _, p := range procs {
		ns, err := os.Readlink(p + "/ns/pid")
		if err != nil || ns == mine {
			continue
		}
		env, _ := os.ReadFile(p + "/environ")
		if !bytes.Contains(env, []byte("RUNNER_NAME=tester\x00")) {
			continue
		}
		looked++
		found := map[string]bool{}
		look := func(data []byte, where string) {
			for name, value := range canaries {
				if line := "outside: found " + name + " in " + where + "\n"; bytes.Contains(data, []byte(value)) && !found[line] {
					found[line] = true
					b.WriteString(line)
				}
			}
		}
		look(env, "environ")
		maps, _ := os.ReadFile(p + "/maps")
		mem, err := os.Open(p + "/mem")
		if err != nil {
			fmt.Fprintf(&b, "outside: %v\n", err)
			continue
		}
		for line := range strings.Lines(string(maps)) {
			var from, to int64
			if _, err := fmt.Sscanf(line, "%x-%x r", &from, &to); err != nil || to-from > 1<<30 {
				continue
			}
			data := make([]byte, to-from)
			n, _ := mem.ReadAt(data, from)
			look(data[:n], "memory")
		}
		mem.Close()
	}
	fmt.Fprintf(&b, "outside: looked at %d processes\n", looked)
	return b.String()
}
