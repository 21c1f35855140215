package rotate

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport-ci/sallyport"
)

// Postgres rotates a password between two users: while one is in use, the other gets a new
// password. Both are members of one role, which owns what they make. The server is sent a SCRAM
// verifier in place of the password, so that no log of it has one.
type Postgres struct{}

var _ sallyport.Rotator = Postgres{}

// PostgresConfig is the configuration of a rule.
type PostgresConfig struct {
	Host     string `json:"host"`
	Port     uint16 `json:"port,omitempty"` // 0: 5432
	Database string `json:"database"`
	// Users are the two that take turns; the present value is that of the first until the first rotation.
	Users []string `json:"users"`
	// Owner is the role that both are members of, and that they are in after they log in. It may not log in itself.
	Owner string `json:"owner"`
	// AdminUser logs in with the rule's own credential. It needs CREATEROLE, ADMIN on the
	// owner, and pg_signal_backend to end sessions; since PostgreSQL 16 also ADMIN on users that it did not make.
	AdminUser string `json:"admin_user"`
}

func parsePostgres(raw json.RawMessage) (PostgresConfig, error) {
	var c PostgresConfig
	if err := decode(raw, &c); err != nil {
		return c, err
	}
	if c.Port == 0 {
		c.Port = 5432
	}
	bad := func(format string, args ...any) error {
		return sallyport.Errorf(sallyport.CodeInvalid, "the configuration of the rotation: %s", fmt.Sprintf(format, args...))
	}
	for what, v := range map[string]string{"host": c.Host, "database": c.Database, "owner": c.Owner, "admin_user": c.AdminUser} {
		if v == "" || len(v) > 255 {
			return c, bad("%s is needed", what)
		}
	}
	if strings.HasPrefix(c.Host, "/") || strings.ContainsAny(c.Host, ", ") {
		return c, bad("host is one name or address")
	}
	if len(c.Users) != 2 || c.Users[0] == c.Users[1] {
		return c, bad("users are two, which take turns")
	}
	for _, u := range c.Users {
		if u == "" || len(u) > 63 || u == c.AdminUser || u == c.Owner { // a longer name is cut by the server
			return c, bad("%.70q cannot be one of the users", u)
		}
	}
	return c, nil
}

func (p Postgres) Check(raw json.RawMessage) error {
	_, err := parsePostgres(raw)
	return err
}

func (p Postgres) Stage(_ context.Context, t sallyport.RotationTask) (sallyport.Login, error) {
	c, err := parsePostgres(t.Config)
	if err != nil {
		return sallyport.Login{}, err
	}
	b := make([]byte, 30)
	_, _ = rand.Read(b) // never fails
	next := c.Users[1]
	if c.old(t) == next {
		next = c.Users[0]
	}
	return sallyport.Login{Account: next, Value: sallyport.NewSecret([]byte(base64.RawURLEncoding.EncodeToString(b)))}, nil
}

// old is the user in use.
func (c PostgresConfig) old(t sallyport.RotationTask) string {
	if t.Old.Account == "" {
		return c.Users[0]
	}
	return t.Old.Account
}

func (p Postgres) Apply(ctx context.Context, t sallyport.RotationTask) error {
	return p.as(ctx, t, func(c PostgresConfig, conn *pgx.Conn) error {
		user, err := c.ours(t.New.Account)
		if err != nil {
			return err
		}
		if user == c.old(t) {
			return sallyport.Errorf(sallyport.CodeInvalid, "the user in use is not the one to change")
		}
		var ends bool // what could not be retired is not begun
		if err := conn.QueryRow(ctx, "SELECT pg_has_role('pg_signal_backend', 'MEMBER')").Scan(&ends); err != nil {
			return err
		}
		if !ends {
			return sallyport.Errorf(sallyport.CodeDenied, "%.70q may not end sessions of others", c.AdminUser).WithHint("GRANT pg_signal_backend TO it")
		}
		verifier, err := scramVerifier(string(t.New.Value.Reveal()))
		if err != nil {
			return err
		}
		exists, err := c.judge(ctx, conn, user)
		if err != nil {
			return err
		}
		if !exists {
			if _, err := conn.Exec(ctx, "CREATE ROLE "+ident(user)+" NOLOGIN"); err != nil {
				return err
			}
		}
		for _, sql := range []string{
			"GRANT " + ident(c.Owner) + " TO " + ident(user),
			"ALTER ROLE " + ident(user) + " SET ROLE TO " + ident(c.Owner), // what it makes belongs to the owner
			"ALTER ROLE " + ident(user) + " LOGIN PASSWORD '" + verifier + "'",
		} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

// ours refuses accounts that are not of the rule's two.
func (c PostgresConfig) ours(user string) (string, error) {
	if !slices.Contains(c.Users, user) {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "the user %.70q is none that the rule names", user)
	}
	return user, nil
}

// judge says whether a user exists, and refuses one that may more than use what the owner has.
func (c PostgresConfig) judge(ctx context.Context, conn *pgx.Conn, user string) (exists bool, err error) {
	var mighty bool
	err = conn.QueryRow(ctx, "SELECT rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = $1", user).Scan(&mighty)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err == nil && mighty {
		err = sallyport.Errorf(sallyport.CodeDenied, "the user %.70q is a superuser, makes roles, replicates or bypasses row security", user).WithHint("name users of the application alone")
	}
	return true, err
}

// Accepts logs in by SCRAM. A server that lets somebody in without asking for a password has not
// accepted it.
func (p Postgres) Accepts(ctx context.Context, t sallyport.RotationTask, l sallyport.Login) (bool, error) {
	c, err := parsePostgres(t.Config)
	if err != nil {
		return false, err
	}
	user := l.Account
	if user == "" {
		user = c.old(t)
	}
	conn, err := c.connect(ctx, user, l.Value)
	if err == nil {
		var who string
		err = conn.QueryRow(ctx, "SELECT session_user").Scan(&who)
		_ = conn.Close(ctx)
		return err == nil && who == user, hide(err)
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && slices.Contains([]string{"28P01", "28000"}, refused.Code) { // invalid_password, invalid_authorization_specification
		return false, nil
	}
	return false, hide(err)
}

func (p Postgres) Retire(ctx context.Context, t sallyport.RotationTask) error {
	return p.disable(ctx, t, t.Old.Account)
}

// Destroy has nothing to do: the user without a password waits for its next turn.
func (p Postgres) Destroy(context.Context, sallyport.RotationTask) error { return nil }

func (p Postgres) Discard(ctx context.Context, t sallyport.RotationTask) error {
	if t.New.Account == "" { // nothing was staged, and staging makes nothing
		return nil
	}
	return p.disable(ctx, t, t.New.Account)
}

// disable has a user log in no more, and ends its sessions.
func (p Postgres) disable(ctx context.Context, t sallyport.RotationTask, account string) error {
	return p.as(ctx, t, func(c PostgresConfig, conn *pgx.Conn) error {
		if account == "" {
			account = c.old(t)
		}
		user, err := c.ours(account)
		if err != nil {
			return err
		}
		exists, err := c.judge(ctx, conn, user)
		if err != nil || !exists {
			return err
		}
		if _, err := conn.Exec(ctx, "ALTER ROLE "+ident(user)+" NOLOGIN PASSWORD NULL"); err != nil {
			return err
		}
		// One who may not log in any more may still be logged in.
		_, err = conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND pid <> pg_backend_pid()", user)
		return err
	})
}

// as does something as the administrator.
func (p Postgres) as(ctx context.Context, t sallyport.RotationTask, f func(PostgresConfig, *pgx.Conn) error) error {
	c, err := parsePostgres(t.Config)
	if err != nil {
		return err
	}
	conn, err := c.connect(ctx, c.AdminUser, t.Admin)
	if err != nil {
		return hide(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return hide(f(c, conn))
}

// connect logs in. Over TLS the server is verified; without TLS only private addresses are spoken to, and the
// password is proven, never sent.
func (c PostgresConfig) connect(ctx context.Context, user string, password sallyport.Secret) (*pgx.Conn, error) {
	mode := "verify-full"
	if private(c.Host) {
		mode = "prefer"
	}
	config, err := pgx.ParseConfig("sslmode=" + mode)
	if err != nil {
		return nil, err
	}
	config.Host, config.Port, config.Database, config.User, config.Password = c.Host, c.Port, c.Database, user, string(password.Reveal())
	for _, f := range config.Fallbacks {
		f.Host, f.Port = c.Host, c.Port
	}
	if config.TLSConfig != nil {
		config.TLSConfig.ServerName = c.Host
	}
	config.RequireAuth = "scram-sha-256"
	config.RuntimeParams = map[string]string{"application_name": "sallyport rotation", "statement_timeout": "10000"}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	return pgx.ConnectConfig(ctx, config)
}

// hide keeps of an error of the server what says why, and no statement.
func hide(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		code := sallyport.CodeUnavailable
		if pg.Code == "42501" { // insufficient_privilege
			code = sallyport.CodeDenied
		}
		return sallyport.Errorf(code, "PostgreSQL: %.200s (%s)", pg.Message, pg.Code)
	}
	var ours *sallyport.Error
	if err == nil || errors.As(err, &ours) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return sallyport.Errorf(sallyport.CodeUnavailable, "PostgreSQL did not answer in time")
	}
	return sallyport.Errorf(sallyport.CodeUnavailable, "PostgreSQL: %.300s", err.Error())
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// scramVerifier is what PostgreSQL keeps of a password (RFC 5803 in its spelling). ASCII is its own SASLprep.
func scramVerifier(password string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	const rounds = 4096
	salted, err := pbkdf2.Key(sha256.New, password, salt, rounds, sha256.Size)
	if err != nil {
		return "", err
	}
	mac := func(what string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(what))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", rounds, b64(salt), b64(stored[:]), b64(mac("Server Key"))), nil
}
