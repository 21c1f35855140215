package cli

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // an attacker's way into the database

	"github.com/sallyport-ci/sallyport"
)

// tampering is what somebody with write access to the database does while
// nothing runs, and what an auditor must be told.
var tampering = []struct {
	name string
	do   []string // SQL; %[1]d is a record in the middle of the trail
	// kinds of problem, and the records that they name, counted from that one;
	// nil: any, of any record
	kinds []string
	seqs  []int64
}{
	{"untouched", nil, nil, nil},
	{"edited detail", []string{`UPDATE audit SET detail = '{"forged":true}' WHERE seq = %[1]d`}, []string{"edited"}, []int64{0}},
	{"edited actor", []string{`UPDATE audit SET actor = 'person:mallory' WHERE seq = %[1]d`}, []string{"edited"}, []int64{0}},
	{"edited time", []string{`UPDATE audit SET at = at + 1 WHERE seq = %[1]d`}, []string{"edited"}, []int64{0}},
	{"deleted", []string{`DELETE FROM audit WHERE seq = %[1]d`}, []string{"deleted"}, []int64{0}},
	{"deleted and closed up", []string{`DELETE FROM audit WHERE seq = %[1]d`, `UPDATE audit SET seq = -seq WHERE seq > %[1]d`, `UPDATE audit SET seq = -seq - 1 WHERE seq < 0`},
		[]string{"deleted"}, []int64{0}},
	{"swapped", []string{`UPDATE audit SET seq = -1 WHERE seq = %[1]d`, `UPDATE audit SET seq = %[1]d WHERE seq = %[1]d + 1`, `UPDATE audit SET seq = %[1]d + 1 WHERE seq = -1`},
		[]string{"reordered", "reordered"}, []int64{0, 1}},
	{"tail cut off", []string{`DELETE FROM audit WHERE seq >= %[1]d`}, []string{"truncated"}, []int64{0}},
	// Whether the records before it were marked as logged yet tells a cut from an older copy.
	{"last record gone", []string{`DELETE FROM audit WHERE seq = (SELECT MAX(seq) FROM audit)`}, nil, nil},
	{"inserted", []string{`UPDATE audit SET seq = -seq WHERE seq > %[1]d`, `UPDATE audit SET seq = -seq + 1 WHERE seq < 0`,
		`INSERT INTO audit SELECT seq + 1, at, actor, action, object, detail, salt, log_index FROM audit WHERE seq = %[1]d`}, nil, nil},
}

// TestTampering alters the trail of a real, stopped installation: verify finds
// it, and an installation that is started on it raises the alarm and adds nothing.
func TestTampering(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.project("tamper")
	lint := files{".github/workflows/lint.yml": crashWorkflows[".github/workflows/lint.yml"]}
	r.ran("First", lint)
	s.stop()
	older := filepath.Join(t.TempDir(), "older.db")
	copyFile(t, filepath.Join(s.data, "sallyport.db"), older)
	s.start()
	r.ran("Second", files{"more.txt": "more\n"})
	s.stop()
	for _, c := range tampering {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			at := s.copy(t)
			middle := at.alter(c.do...)
			if c.name == "untouched" {
				at.ok("audit", "verify")
				if report := at.verified(exitOK); report.Records == 0 || report.Logged != report.Records {
					t.Errorf("got %+v, want all records logged", report)
				}
				at.start()
				at.eventually("readiness", func() bool { return at.ready() == http.StatusOK })
				return
			}
			report := at.verified(exitFailed)
			var kinds []string
			for i, p := range report.Problems {
				kinds = append(kinds, p.Kind)
				if i < len(c.seqs) && p.Seq != middle+c.seqs[i] {
					t.Errorf("problem %d is of record %d, want %d: %s", i, p.Seq, middle+c.seqs[i], p.Text)
				}
				if p.Seq < 0 {
					t.Errorf("problem %d names no record: %s", i, p.Text)
				}
			}
			if len(kinds) == 0 || c.kinds != nil && !slices.Equal(kinds[:min(len(kinds), len(c.kinds))], c.kinds) {
				t.Errorf("got problems %+v, want %q", report.Problems, c.kinds)
			}
			text := at.run("audit", "verify")
			if want := fmt.Sprintf("record %d ", report.Problems[0].Seq); text.code != exitFailed || !strings.Contains(text.stdout, want) {
				t.Errorf("audit verify: exit code %d, want 1 and %q\n%s", text.code, want, text.stdout)
			}
			at.alarm(report.Size)
		})
	}
	t.Run("older database", func(t *testing.T) {
		t.Parallel()
		at := s.copy(t)
		copyFile(t, older, filepath.Join(at.data, "sallyport.db"))
		report := at.verified(exitFailed)
		if p := report.Problems[0]; p.Kind != "truncated" && p.Kind != "rolled_back" || p.Seq <= 0 {
			t.Errorf("got %+v, want the first record that is missing", p)
		}
		at.alarm(report.Size)
		if p := at.verified(exitFailed).Problems[0]; p.Kind != "rolled_back" { // it was written to
			t.Errorf("after a start: got %+v, want rolled_back", p)
		}
	})
}

// copy returns the stopped installation in a directory of its own.
func (s *server) copy(t *testing.T) *server {
	t.Helper()
	to := unstarted(t)
	err := filepath.WalkDir(s.data, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.data, path)
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			return os.MkdirAll(filepath.Join(to.data, rel), 0o700)
		case e.Type().IsRegular():
			copyFile(t, path, filepath.Join(to.data, rel))
		}
		return nil // sockets are made anew
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// alter runs SQL against the database behind the product's back, and returns the
// record in the middle that it was about.
func (s *server) alter(statements ...string) (middle int64) {
	s.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(s.data, "sallyport.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT MAX(seq) / 2 FROM audit").Scan(&middle); err != nil {
		s.t.Fatal(err)
	}
	for _, q := range statements {
		if strings.Contains(q, "%") {
			q = fmt.Sprintf(q, middle)
		}
		if _, err := db.Exec(q); err != nil {
			s.t.Fatalf("%s: %v", q, err)
		}
	}
	return middle
}

// verified runs audit verify --json, which must end with code.
func (s *server) verified(code int) sallyport.AuditReport {
	s.t.Helper()
	got := s.run("audit", "verify", "--json")
	var report sallyport.AuditReport
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || got.code != code || report.OK != (code == exitOK) {
		s.t.Fatalf("audit verify --json: exit code %d, want %d, %v\n%s%s", got.code, code, err, got.stdout, got.stderr)
	}
	return report
}

// ready asks /readyz.
func (s *server) ready() int {
	s.t.Helper()
	resp, err := http.Get(s.url + "/readyz")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// alarm starts an installation whose trail was altered: it is not ready, its
// audit page says why, and its log of size entries does not grow.
func (s *server) alarm(size int64) {
	s.t.Helper()
	s.start()
	s.eventually("the alarm", func() bool { return s.ready() == http.StatusServiceUnavailable })
	if page := s.page("/audit"); !strings.Contains(page, "the log has stopped") {
		s.t.Errorf("the audit page does not say that the log has stopped:\n%.2000s", page)
	}
	s.ok("token", "create", "after the alarm") // a new record
	health, err := s.services().Instance.Health(context.Background())
	if err != nil || health.Audit.Halted == "" || health.Ready {
		s.t.Errorf("health: %+v, %v, want it halted", health, err)
	}
	if report := s.verified(exitFailed); report.Size != size {
		s.t.Errorf("the log of an altered trail grew from %d to %d entries", size, report.Size)
	}
	s.stop()
	s.verified(exitFailed) // a start heals nothing
}

// page logs in with a one-time link and returns a page.
func (s *server) page(path string) string {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	link, token, _ := strings.Cut(strings.TrimSpace(s.ok("login")), "?token=")
	resp, err := client.PostForm(link, url.Values{"token": {token}})
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	if resp, err = client.Get(s.url + path); err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("GET %s: %s, %v\n%.2000s", path, resp.Status, err, b)
	}
	return string(b)
}
