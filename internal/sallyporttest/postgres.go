package sallyporttest

import (
	"bufio"
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// PostgresServer is a PostgreSQL server of the test's own, reached by a unix socket.
type PostgresServer struct {
	dir   string // data and socket
	bin   string
	owner *syscall.Credential
	count atomic.Int64
}

// postgresStart bounds how long a server may take to come up on a loaded machine.
const postgresStart = 60 * time.Second

// Postgres starts a server that is stopped when the test ends. It skips the test
// where PostgreSQL is not installed, or is root and there is no user to run it as.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	bin := postgresBin()
	if bin == "" {
		t.Skip("PostgreSQL is not installed: no initdb in PATH or /usr/lib/postgresql")
	}
	s := &PostgresServer{bin: bin}
	dir, err := os.MkdirTemp("", "sallyport-pg-") // short, and not below a directory that only root may enter
	if err != nil {
		t.Fatal(err)
	}
	s.dir = dir
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Geteuid() == 0 { // initdb refuses root
		s.owner = postgresOwner(t)
		if err := os.Chown(dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	if out, err := s.command("initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.start(t, data)
	return s
}

func (s *PostgresServer) start(t testing.TB, data string) {
	t.Helper()
	cmd := s.command("postgres", "-D", data, "-k", s.dir, "-c", "listen_addresses=")
	cmd.SysProcAttr.Pdeathsig = syscall.SIGINT // it must not outlive a killed test
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("postgres: %v", err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	var log bytes.Buffer
	go func() {
		defer close(ended)
		up := false
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if up {
				continue
			}
			fmt.Fprintln(&log, lines.Text())
			if strings.Contains(lines.Text(), "ready to accept connections") {
				up = true
				close(ready)
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // fast shutdown
		<-ended
		_ = cmd.Wait()
	})
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("postgres ended:\n%s", log.String())
	case <-time.After(postgresStart):
		t.Fatal("postgres did not come up")
	}
}

// Database makes an empty database and returns its address.
func (s *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d", s.count.Add(1))
	if out, err := s.command("createdb", "-h", s.dir, "-U", "postgres", name).CombinedOutput(); err != nil {
		t.Fatalf("createdb: %v\n%s", err, out)
	}
	return "postgres:///" + name + "?" + url.Values{"host": {s.dir}, "user": {"postgres"}}.Encode()
}

func (s *PostgresServer) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	return cmd
}

// postgresBin returns the directory of the newest installed programs, "" for none.
func postgresBin() string {
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil { // its companions are beside the program, not the link
			return filepath.Dir(p)
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return ""
	}
	version := func(p string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(p))))
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }))
}

func postgresOwner(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skip("PostgreSQL does not run as root, and there is no user postgres")
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		t.Skip("the user postgres has no numeric id")
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
