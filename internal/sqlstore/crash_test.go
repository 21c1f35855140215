package sqlstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
	"github.com/sallyport-ci/sallyport/internal/sqlstore"
)

// crashEnv holds the database that a child process writes to until it is killed.
const crashEnv = "SALLYPORT_TEST_CRASH"

func TestMain(m *testing.M) {
	if dsn := os.Getenv(crashEnv); dsn != "" {
		fmt.Fprintln(os.Stderr, writeForever(dsn))
		os.Exit(1)
	}
	code := m.Run()
	if started.Load() {
		if server, err := postgres(); err == nil {
			server.Stop()
		}
	}
	os.Exit(code)
}

// postgres is one server for all tests. None of them cuts its power, so it does not wait for the disk.
var (
	started  atomic.Bool
	postgres = sync.OnceValues(func() (*sallyporttest.PostgresServer, error) {
		started.Store(true)
		return sallyporttest.StartPostgres("fsync=off")
	})
)

// postgresDSN makes a database, or skips the test where there is no PostgreSQL.
func postgresDSN(t testing.TB) string {
	t.Helper()
	server, err := postgres()
	if errors.Is(err, sallyporttest.ErrNoPostgres) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return server.Database(t)
}

// record is a change that has two parts: an audit record and a ref.
func record(tx sallyport.Tx, name string) error {
	if _, err := tx.Audit().Append(sallyport.AuditRecord{At: now, Actor: "test", Action: "test", Object: name}); err != nil {
		return err
	}
	return tx.Projects().SetRef("p", name, "1")
}

func writeForever(dsn string) error {
	s, err := sqlstore.Open(context.Background(), sqlstore.Config{DSN: dsn})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for w := range 8 {
		go func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, n)
				if err := s.Update(context.Background(), func(tx sallyport.Tx) error { return record(tx, name) }); err != nil {
					failed <- err
					return
				}
				fmt.Println(name) // acknowledged
			}
		}()
	}
	return <-failed
}

func insertProject(t testing.TB, s sallyport.Store) {
	t.Helper()
	err := s.Update(t.Context(), func(tx sallyport.Tx) error {
		return tx.Projects().Insert(sallyport.Project{ID: "p", Name: "p", CreatedAt: now})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// recorded returns the recorded changes, and fails when one is not whole.
func recorded(t testing.TB, s sallyport.Store) map[string]bool {
	t.Helper()
	got := make(map[string]bool)
	err := s.View(t.Context(), func(tx sallyport.Tx) error {
		all, err := tx.Audit().Range(0, 1<<30)
		if err != nil {
			return err
		}
		refs, err := tx.Projects().Refs("p")
		for i, r := range all {
			if r.Seq != int64(i) || refs[r.Object] == "" || got[r.Object] {
				t.Errorf("record %d of %s has number %d, ref %q", i, r.Object, r.Seq, refs[r.Object])
			}
			got[r.Object] = true
		}
		if len(refs) != len(all) {
			t.Errorf("%d records and %d refs", len(all), len(refs))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestCrash kills a process that writes: all that it was told is durable is
// there, whole, and what it was not told is whole or absent.
func TestCrash(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		insertProject(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		acknowledged := make(map[string]bool)
		for round := range 5 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), crashEnv+"="+dsn)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			n := 0
			for lines := bufio.NewScanner(out); lines.Scan(); n++ {
				if n == 50+37*round {
					if err := cmd.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
				acknowledged[lines.Text()] = true
			}
			_ = cmd.Wait() // it was killed
		}
		got := recorded(t, open(t, dsn))
		for name := range acknowledged {
			if !got[name] {
				t.Errorf("%s was acknowledged and is lost", name)
			}
		}
		t.Logf("%d changes, %d of them acknowledged", len(got), len(acknowledged))
	})
}

// TestFull fills the disk below an SQLite database.
func TestFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("a small disk cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	s := open(t, "sqlite:"+filepath.Join(dir, "s.db"))
	insertProject(t, s)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	acknowledged := make(map[string]bool)
	write := func(name string, payload int) error {
		err := s.Update(context.Background(), func(tx sallyport.Tx) error {
			id := sallyport.NewID[sallyport.PushID](now)
			if err := tx.Pushes().Insert(sallyport.Push{ID: id, Project: "p", Key: name, Payload: make([]byte, payload), At: now}); err != nil {
				return err
			}
			return record(tx, name)
		})
		if err == nil {
			mu.Lock()
			acknowledged[name] = true
			mu.Unlock()
		}
		return err
	}
	for w := range 4 {
		wg.Go(func() {
			for n := range 1000 {
				if err := write(fmt.Sprintf("%d-%d", w, n), 100_000); err != nil {
					if sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
						t.Errorf("write to a full disk: %v", err)
					}
					return
				}
			}
			t.Error("the disk was never full")
		})
	}
	wg.Wait()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := write("again", 10); err != nil {
		t.Errorf("write when there is space again: %v", err)
	}
	got := recorded(t, s)
	if len(got) != len(acknowledged) {
		t.Errorf("%d changes, %d of them acknowledged", len(got), len(acknowledged))
	}
	for name := range acknowledged {
		if !got[name] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
}

// TestPostgresLost cuts the connections of a store that writes: each update
// says truly whether it happened.
func TestPostgresLost(t *testing.T) {
	t.Parallel()
	dsn := postgresDSN(t)
	s := open(t, dsn)
	insertProject(t, s)
	db := openSQL(t, dsn)
	db.SetMaxOpenConns(1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	failed := 0
	for w := range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("%d-%d", w, n)
				err := s.Update(context.Background(), func(tx sallyport.Tx) error { return record(tx, name) })
				mu.Lock()
				if err == nil {
					acknowledged[name] = true
				} else if failed++; sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
					t.Errorf("update: %v", err)
				}
				mu.Unlock()
			}
		})
	}
	signal, stopWatch := s.Watch("other")
	for range 20 {
		execSQL(t, db, "SELECT pg_sleep(0.05)", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sallyport' AND datname = current_database()")
	}
	select {
	case <-signal: // the lost listener has wakened all
	case <-time.After(30 * time.Second):
		t.Error("watchers were not wakened after the listener was lost")
	}
	stopWatch()
	close(stop)
	wg.Wait()
	if err := s.Update(t.Context(), func(tx sallyport.Tx) error { return record(tx, "last") }); err != nil {
		t.Errorf("update after the connections were lost: %v", err)
	}
	acknowledged["last"] = true
	got := recorded(t, s)
	for name := range acknowledged {
		if !got[name] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	for name := range got {
		if !acknowledged[name] {
			t.Errorf("%s was refused and is there", name)
		}
	}
	t.Logf("%d updates happened, %d were refused", len(acknowledged), failed)
}

// TestProcesses opens one database twice, as two processes do.
func TestProcesses(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, dsn string) {
		a, b := open(t, dsn), open(t, dsn)
		insertProject(t, a)
		var wg sync.WaitGroup
		for i, s := range []*sqlstore.Store{a, b, a, b} {
			wg.Go(func() {
				for n := range 25 {
					if err := s.Update(context.Background(), func(tx sallyport.Tx) error { return record(tx, fmt.Sprintf("%d-%d", i, n)) }); err != nil {
						t.Errorf("update: %v", err)
					}
				}
			})
		}
		wg.Wait()
		if got := recorded(t, b); len(got) != 100 {
			t.Errorf("%d changes of 100", len(got))
		}
		signal, stop := b.Watch("run/1")
		defer stop()
		deadline := time.After(30 * time.Second)
		for n := 0; ; n++ {
			err := a.Update(t.Context(), func(tx sallyport.Tx) error {
				tx.Touch("run/1")
				return tx.Projects().SetRef("p", "r", fmt.Sprint(n))
			})
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-signal:
				return
			case <-deadline:
				t.Fatal("the other process was not told")
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
}

// TestSwallowed lets functions ignore the failure of a statement.
func TestSwallowed(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		insertProject(t, s)
		err := s.Update(t.Context(), func(tx sallyport.Tx) error {
			_ = tx.Projects().SetRef("missing", "r", "1") // violates a foreign key
			_ = tx.Projects().SetRef("p", "r", "1")
			return nil
		})
		if sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("update: %v", err)
		}
		var kept sallyport.Tx
		ours := errors.New("ours")
		if err := s.Update(t.Context(), func(tx sallyport.Tx) error { kept = tx; return ours }); !errors.Is(err, ours) {
			t.Errorf("update: %v", err)
		}
		if _, err := kept.Projects().List(); err == nil {
			t.Error("a transaction could be used after its end")
		}
		if got := recorded(t, s); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
}
