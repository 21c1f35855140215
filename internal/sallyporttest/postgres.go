package sallyporttest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
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
	cmd   *exec.Cmd
	ended chan struct{}
	count atomic.Int64
}

// postgresStart bounds how long a server may take to come up on a loaded machine.
const postgresStart = 2 * time.Minute

// ErrNoPostgres says why no server can be started on this machine; the test is to be skipped.
var ErrNoPostgres = errors.New("PostgreSQL cannot be used")

// Postgres starts a server that is stopped when the test ends, with settings
// such as "fsync=off". It skips the test where PostgreSQL cannot be used.
func Postgres(t testing.TB, settings ...string) *PostgresServer {
	t.Helper()
	s, err := StartPostgres(settings...)
	if errors.Is(err, ErrNoPostgres) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// StartPostgres starts a server that is stopped by Stop, or when this process ends.
func StartPostgres(settings ...string) (_ *PostgresServer, err error) {
	s := &PostgresServer{bin: postgresBin(), ended: make(chan struct{})}
	if s.bin == "" {
		return nil, fmt.Errorf("%w: no initdb in PATH or /usr/lib/postgresql", ErrNoPostgres)
	}
	if os.Geteuid() == 0 { // it refuses root
		if s.owner, err = postgresOwner(); err != nil {
			return nil, err
		}
	}
	// A short path, for the socket, and not below a directory that only root may enter.
	if s.dir, err = os.MkdirTemp("", "sallyport-pg-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(s.dir)
		}
	}()
	if s.owner != nil {
		if err := os.Chown(s.dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(s.dir, "data")
	if out, err := s.command("initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	args := []string{"-D", data, "-k", s.dir, "-c", "listen_addresses="}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	return s, s.start(args)
}

func (s *PostgresServer) start(args []string) error {
	s.cmd = s.command("postgres", args...)
	s.cmd.SysProcAttr.Pdeathsig = syscall.SIGINT // it must not outlive a killed test
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return err
	}
	// The signal comes when the thread that started it ends, as threads do that something
	// else was locked to; this one is its own.
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			<-s.ended
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	ready := make(chan struct{})
	var log bytes.Buffer
	go func() {
		defer close(s.ended)
		up := false
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if up {
				continue
			}
			fmt.Fprintln(&log, lines.Text())
			if up = strings.Contains(lines.Text(), "ready to accept connections"); up {
				close(ready)
			}
		}
	}()
	select {
	case <-ready:
		return nil
	case <-s.ended:
		return fmt.Errorf("postgres ended: %w\n%s", s.cmd.Wait(), log.String())
	case <-time.After(postgresStart):
		s.Stop()
		return errors.New("postgres did not come up")
	}
}

// Stop ends the server with all its connections, and removes its data.
func (s *PostgresServer) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGINT) // a fast shutdown
	<-s.ended
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

// Socket returns the directory of the server's unix socket, for its owner postgres.
func (s *PostgresServer) Socket() string { return s.dir }

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

func postgresOwner() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w: it does not run as root, and there is no user postgres", ErrNoPostgres)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("%w: the user postgres has no numeric id", ErrNoPostgres)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
