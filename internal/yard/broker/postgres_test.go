package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

// lendShop returns how a job connects, and the uses that were recorded.
func lendShop(t *testing.T, d *sallyporttest.Shop, rule sallyport.CredentialRule) (connect func(parameters string) (*pgx.Conn, error), uses func() []sallyport.CredentialUse) {
	t.Helper()
	rule.Name, rule.Secret, rule.Kind, rule.Host, rule.Port = "db", "PASSWORD", sallyport.CredentialPostgres, "db.example.com", d.Port
	if rule.User == "" {
		rule.User = "app"
	}
	if rule.Database == "" {
		rule.Database = "shop"
	}
	var mu sync.Mutex
	var list []sallyport.CredentialUse
	b, err := New(Config{Lent: []Lent{{Rule: rule, Value: sallyport.NewSecret([]byte(canary))}}, Run: "run7", Record: func(u sallyport.CredentialUse) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, u)
	}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if want := fmt.Sprintf("db.example.com:%d", d.Port); address != want {
			return nil, fmt.Errorf("%s was dialled", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", d.Port))
	}})
	if err != nil {
		t.Fatal(err)
	}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := front.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { b.Stream("db.example.com", d.Port)(c) })
		}
	})
	t.Cleanup(func() { front.Close(); b.Close(); wg.Wait() })
	connect = func(parameters string) (*pgx.Conn, error) {
		// prefer: it asks for TLS, and goes on without
		conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=127.0.0.1 port=%d user=anybody dbname=%s sslmode=prefer passfile=/dev/null %s", front.Addr().(*net.TCPAddr).Port, "shop", parameters))
		if err == nil {
			t.Cleanup(func() { conn.Close(context.Background()) })
		}
		return conn, err
	}
	return connect, func() []sallyport.CredentialUse {
		mu.Lock()
		defer mu.Unlock()
		return append([]sallyport.CredentialUse(nil), list...)
	}
}

func ask(t *testing.T, c *pgx.Conn, sql string) string {
	t.Helper()
	var s string
	if err := c.QueryRow(t.Context(), sql).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

func TestAJobQueriesPostgresWithoutAPassword(t *testing.T) {
	for _, withTLS := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls %v", withTLS), func(t *testing.T) {
			d := sallyporttest.NewShop(t, canary, withTLS)
			connect, uses := lendShop(t, d, sallyport.CredentialRule{})
			c, err := connect("application_name=mine timezone=UTC")
			if err != nil {
				t.Fatal(err)
			}
			if got := ask(t, c, "SELECT session_user || ' ' || current_setting('application_name') || ' ' || (SELECT n FROM items)"); got != "app sallyport run7 42" {
				t.Errorf("got %q", got)
			}
			if got := ask(t, c, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != fmt.Sprint(withTLS) {
				t.Errorf("TLS to the server: %s", got)
			}
			if _, err := c.CopyFrom(t.Context(), pgx.Identifier{"pg_temp", "mine"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}})); err == nil {
				t.Error("copied into a table that is not there")
			}
			if _, err := c.Exec(t.Context(), "CREATE TEMP TABLE mine (n int)"); err != nil {
				t.Fatal(err)
			}
			if n, err := c.CopyFrom(t.Context(), pgx.Identifier{"mine"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}, {2}})); n != 2 || err != nil {
				t.Errorf("copied %d rows, %v", n, err)
			}

			// A request to cancel reaches the server's own session.
			done := make(chan error, 1)
			go func() { _, err := c.Exec(t.Context(), "SELECT pg_sleep(3600)"); done <- err }()
			for { // until it sleeps
				var n int
				if err := d.Owner.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'").Scan(&n); err != nil {
					t.Fatal(err)
				}
				if n == 1 {
					break
				}
			}
			if err := c.PgConn().CancelRequest(t.Context()); err != nil {
				t.Fatal(err)
			}
			var pg *pgconn.PgError
			if err := <-done; !errors.As(err, &pg) || pg.Code != "57014" {
				t.Errorf("cancelled: %v", err)
			}
			c.Close(t.Context())
			for len(uses()) == 0 {
				time.Sleep(10 * time.Millisecond)
			}
			if u := uses()[0]; u.Method != "CONNECT" || u.Credential != "db" || u.Decision != sallyport.EgressAllowed || u.Sent == 0 || u.Received == 0 {
				t.Errorf("recorded %+v", u)
			}
		})
	}
}

// TestPostgresRefusals tries what must not be lent, each in a session of its own.
func TestPostgresRefusals(t *testing.T) {
	d := sallyporttest.NewShop(t, canary, false)
	connect, uses := lendShop(t, d, sallyport.CredentialRule{})
	for _, c := range []struct{ parameters, want string }{
		{"dbname=postgres", "is lent for the database"},
		{"role=postgres", `"role" cannot be set`},
		{"options='-c role=postgres'", `"options" cannot be set`},
		{"replication=true", `"replication" cannot be set`},
	} {
		if _, err := connect(c.parameters); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.parameters, err)
		}
	}
	for _, sql := range []string{"ALTER ROLE app PASSWORD 'mine-now'", "SET ROLE postgres", "COPY items TO PROGRAM 'cat'", "SELECT pg_read_file('/etc/passwd')"} {
		c, err := connect("")
		if err != nil {
			t.Fatal(err)
		}
		before := len(uses())
		if _, err := c.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "not lent") {
			t.Errorf("%s: %v", sql, err)
		}
		if _, err := c.Exec(t.Context(), "SELECT 1"); err == nil {
			t.Errorf("%s: the session went on", sql)
		}
		for len(uses()) < before+2 {
			time.Sleep(10 * time.Millisecond)
		}
		if u := uses()[before]; u.Method != "QUERY" || u.Decision != sallyport.EgressDenied {
			t.Errorf("%s: recorded %+v", sql, u)
		}
	}
	// What holds is the role: one that could leave its database is not lent at all.
	for _, c := range []struct{ give, take, want string }{
		{"ALTER ROLE app SUPERUSER", "ALTER ROLE app NOSUPERUSER", "superuser"},
		{"ALTER ROLE app CREATEROLE", "ALTER ROLE app NOCREATEROLE", "may make roles"},
		{"GRANT postgres TO app", "REVOKE postgres FROM app", "may become, a superuser"},
		{"ALTER ROLE other BYPASSRLS; GRANT other TO reader; GRANT reader TO app", "REVOKE reader FROM app; REVOKE other FROM reader; ALTER ROLE other NOBYPASSRLS", "bypass row security (other)"},
		{"GRANT pg_execute_server_program TO app", "REVOKE pg_execute_server_program FROM app", "programs"},
	} {
		d.Exec(c.give)
		if _, err := connect(""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.give, err)
		}
		d.Exec(c.take)
	}
	d.Exec("GRANT reader TO app")
	own, _ := lendShop(t, d, sallyport.CredentialRule{Role: "reader"})
	if _, err := own(""); err == nil || !strings.Contains(err.Error(), "rights or tables of its own, beyond the role reader") {
		t.Errorf("a user with a grant of its own: %v", err)
	}
	d.Exec(fmt.Sprintf("CREATE ROLE guest LOGIN PASSWORD '%s'; GRANT reader TO guest", canary)) // has the role alone
	held, _ := lendShop(t, d, sallyport.CredentialRule{User: "guest", Role: "reader"})
	c, err := held("")
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, c, "SELECT current_user::text"); got != "reader" {
		t.Errorf("the session is of %s", got)
	}
	d.Exec("ALTER ROLE other CREATEROLE; GRANT other TO reader")
	if _, err := held(""); err == nil || !strings.Contains(err.Error(), "may make roles") {
		t.Errorf("a role that may become one that makes roles: %v", err)
	}
	d.Exec("REVOKE other FROM reader; ALTER ROLE other NOCREATEROLE; GRANT other TO guest")
	d.Exec(`CREATE SCHEMA mine; GRANT USAGE ON SCHEMA mine TO PUBLIC; CREATE FUNCTION mine.no(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false';
		CREATE OPERATOR mine.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.no)`)
	for _, parameters := range []string{"", "search_path=mine,pg_catalog"} {
		if _, err := held(parameters); err == nil || !strings.Contains(err.Error(), "may become other roles than reader (other)") {
			t.Errorf("a user with another role, %q: %v", parameters, err)
		}
	}
}

// TestAServerThatAsksForThePasswordDoesNotGetIt poses as a server without SCRAM.
func TestAServerThatAsksForThePasswordDoesNotGetIt(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			for i := range 3 {
				n, err := c.Read(buf)
				heard <- string(buf[:n])
				if err != nil {
					break
				}
				if n == 8 && i == 0 {
					c.Write([]byte("N")) // no TLS
					continue
				}
				c.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}) // the password in clear, please
			}
			c.Close()
		}
	}()
	b, err := New(Config{Record: func(sallyport.CredentialUse) {}, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, l.Addr().String())
	}, Lent: []Lent{{Rule: sallyport.CredentialRule{Kind: sallyport.CredentialPostgres, Host: "db", User: "app"}, Value: sallyport.NewSecret([]byte(canary))}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	job, door := net.Pipe()
	go b.Stream("db", 5432)(door)
	config, _ := pgconn.ParseConfig("host=x user=a dbname=b sslmode=disable passfile=/dev/null")
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return job, nil }
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"x"}, nil }
	if _, err := pgconn.ConnectConfig(t.Context(), config); err == nil || !strings.Contains(err.Error(), "another authentication than SCRAM") {
		t.Errorf("%v", err)
	}
	l.Close()
	for {
		select {
		case s := <-heard:
			hides(t, s)
			continue
		default:
		}
		break
	}
}

func TestStatementsThatLeaveTheRole(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"SELECT 1": "", "UPDATE t SET role = 'x'": "", "SELECT 'set role x'; -- set role y": "", "/* ; SET /* nested */ ROLE x */ SELECT 2": "",
		"INSERT INTO t VALUES ('; SET ROLE x')": "", "SET search_path = a": "", "SET LOCAL statement_timeout = 1": "", "RESET ROLE": "",
		"COPY t FROM STDIN": "", "COPY t FROM '/x'; SELECT program": "", "CREATE TABLE role (n int)": "", "SELECT set_config('app.user', 'x', true)": "",
		"BEGIN; SELECT 1; COMMIT": "", "SELECT pg_read_file FROM t": "",
		"set role admin": "SET ROLE", "SET LOCAL ROLE admin": "SET ROLE", "SET SESSION ROLE x": "SET ROLE", "  ;; SET\n/* x */ \"role\" TO x": "SET ROLE",
		"SELECT 1; set Session Authorization x": "SET SESSION AUTHORIZATION", "SET LOCAL SESSION AUTHORIZATION x": "SET SESSION AUTHORIZATION",
		"ALTER USER me PASSWORD 'x'": "ALTER USER", "ALTER ROLE me": "ALTER ROLE", "create role x": "CREATE ROLE", "ALTER SYSTEM SET x = 1": "ALTER SYSTEM",
		"COPY t TO PROGRAM 'sh'": "COPY … PROGRAM", "COPY (SELECT 1) TO PROGRAM 'sh'": "COPY … PROGRAM", "LOAD 'x'": "LOAD",
		"SELECT pg_catalog.pg_read_file('/x')": "pg_read_file", `SELECT "lo_import"('/x')`: "lo_import", "SELECT set_config('role', 'x', false)": "set_config of the role",
		"SELECT set_config(lower('ROLE'), 'x', false)": "set_config of the role", "DO $$ BEGIN SET ROLE x; END $$": "SET ROLE", "DO $a$ BEGIN IF true THEN ALTER USER me PASSWORD 'x'; END IF; END $a$": "ALTER USER",
		`SELECT set_config(E'\x72ole', 'none', false)`: "set_config of the role", `SELECT set_config(e'\162ole', 'none', false)`: "set_config of the role", `SELECT set_config(U&'\0072ole', 'none', false)`: "set_config of the role",
		"SELECT set_config(E'app.user', 'x', true)": "", `SELECT E'\x72ole'`: "",
		"SELECT set_config('ro'||'le', 'none', false)": "set_config of the role", "SELECT set_config('ro'\n'le', 'none', false)": "set_config of the role",
		`SELECT set_config(E'\x72ole', 'x', false)`: "set_config of the role", `SELECT set_config(e'\162ole', 'x', false)`: "set_config of the role",
		`SELECT set_config(E'\u0072ole', 'x', false)`: "set_config of the role", `SELECT "set_config"(E'app.\x75ser', 'x', false)`: "set_config of the role",
		`SELECT set_config(E'app.user', E'\x72', false)`: "", `SELECT set_config(E'role', 'x', false)`: "set_config of the role",
		`SELECT set_config(U&'\0072ole', 'x', false)`: "set_config of the role", `SELECT U&'\0072ole'`: "names or strings written as Unicode escapes", `SET u&"\0072ole" TO x`: "names or strings written as Unicode escapes",
		`SELECT U&"l\006F_import"('/x')`: "names or strings written as Unicode escapes", `SELECT E'a\nb', u & 1`: "",
		"UPDATE pg_settings SET setting = 'x' WHERE name = 'role'": "UPDATE pg_settings", `WITH a AS (UPDATE ONLY pg_catalog."pg_settings" SET setting = 'x' RETURNING 1) SELECT 1`: "UPDATE pg_settings",
		"SELECT * FROM pg_settings": "", "DO 'BEGIN SET ROLE x; END'": "DO with code in plain quotes", `DO LANGUAGE plpgsql E'BEGIN SET\x20ROLE x; END'`: "DO with code in plain quotes",
		"DO $$ BEGIN PERFORM 'x'; END $$": "", "SELECT 1; SELECT 'x' AS do": "",
		`SELECT E'\'; '; SET ROLE x`: "SET ROLE", "SELECT $1; SET ROLE x": "SET ROLE", "SET standard_conforming_strings = off": "SET standard_conforming_strings",
	} {
		if got := leaves(sql); got != want {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
}

func FuzzLeaves(f *testing.F) {
	for _, s := range []string{"SELECT $$a$$", "$a$ $b$", "'", "E'\\", "/*/*", `"a""b"`, "$", "$1", "--"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		leaves(sql)
		// Whatever stands before it, a statement after a line of its own is seen, unless it is inside something.
		if strings.ContainsAny(sql, "'\"$/-*\\") {
			return
		}
		if got := leaves(sql + "\n;SET ROLE x"); got == "" {
			t.Errorf("%q hides what follows", sql)
		}
	})
}
