package broker

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport-ci/sallyport"
)

// Bounds of a PostgreSQL session.
const (
	maxStartup   = 10_000   // bytes, PostgreSQL's own bound
	maxStatement = 16 << 20 // of SQL that is read before it is passed on
	startTime    = time.Minute
)

// Codes of the first message (PostgreSQL's documentation, "Message Formats").
const (
	codeCancel = 80877102
	codeSSL    = 80877103
	codeGSS    = 80877104
)

// startParameters are what a job may set when it connects. Others could change who
// it is ("role"), where its statements go, or what the server loads.
var startParameters = []string{"client_encoding", "datestyle", "intervalstyle", "timezone", "extra_float_digits", "bytea_output", "search_path",
	"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "default_transaction_isolation", "default_transaction_read_only"}

// session is a connection of the job that runs at a server.
type session struct {
	key      []byte // that the job knows
	upstream *pgconn.HijackedConn
	lent     *lent
}

// postgres serves one connection of the job: it authenticates at the server, hands
// the job a session without having asked for a password, and passes messages on.
func (b *Broker) postgres(may []*lent, c net.Conn) {
	defer c.Close()
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.Close() })()

	_ = c.SetDeadline(time.Now().Add(startTime))
	c, parameters, err := b.begin(c)
	if err != nil || parameters == nil {
		return // it cancelled, or is not a client of PostgreSQL
	}
	use := sallyport.CredentialUse{Step: b.cfg.Step(), Credential: may[0].Rule.Name, Host: may[0].host, Method: "CONNECT", At: b.cfg.Clock(), Decision: sallyport.EgressDenied}
	l, settings, err := b.admit(may, parameters)
	if l != nil {
		use.Credential = l.Rule.Name
	}
	var upstream *pgconn.HijackedConn
	if err == nil {
		upstream, err = b.connect(ctx, l, settings)
	}
	if err != nil {
		use.Reason = reasonOf(err)
		b.cfg.Record(use)
		b.fatal(c, err)
		return
	}
	defer upstream.Conn.Close()
	defer context.AfterFunc(ctx, func() { upstream.Conn.Close() })()
	use.Decision = sallyport.EgressAllowed

	pid, s := b.enter(l, upstream)
	defer b.sessions.Delete(pid)
	if err := greet(c, pid, s); err != nil {
		use.Reason = "the job closed the connection"
		b.cfg.Record(use)
		return
	}
	_ = c.SetDeadline(time.Time{})
	b.relay(c, upstream.Conn, &use)
}

// relay passes messages on both ways until one side ends.
func (b *Broker) relay(c, upstream net.Conn, use *sallyport.CredentialUse) {
	back := &counter{to: c}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(back, upstream)
		_ = c.SetReadDeadline(time.Unix(1, 0)) // the server has ended: stop reading
	})
	sent, err := messages(upstream, c)
	upstream.Close()
	wg.Wait()
	use.Sent, use.Received = sent, back.count()
	var refused *refusal
	if errors.As(err, &refused) {
		use.Reason = "ended: " + refused.reason
		denied := *use
		denied.Method, denied.Decision, denied.Reason, denied.Sent, denied.Received = "QUERY", sallyport.EgressDenied, refused.reason, 0, 0
		b.cfg.Record(denied)
		_ = c.SetDeadline(time.Now().Add(startTime))
		b.fatal(c, err)
	}
	b.cfg.Record(*use)
}

// begin reads what comes before authentication. Parameters are nil when there is nothing more to do.
func (b *Broker) begin(c net.Conn) (net.Conn, map[string]string, error) {
	for range 4 {
		body, err := startup(c)
		if err != nil {
			return c, nil, err
		}
		switch code := binary.BigEndian.Uint32(body); {
		case code == codeSSL || code == codeGSS:
			var config *tls.Config
			if code == codeSSL && b.cfg.ServerTLS != nil {
				config = b.cfg.ServerTLS
			}
			if config == nil {
				if _, err := c.Write([]byte("N")); err != nil {
					return c, nil, err
				}
				continue
			}
			if _, err := c.Write([]byte("S")); err != nil {
				return c, nil, err
			}
			c = tls.Server(c, config)
		case code == codeCancel:
			b.cancel(body)
			return c, nil, nil
		case code>>16 == 3:
			parameters, unknown := parameters(body[4:])
			if code&0xffff != 0 || len(unknown) > 0 { // a later version than 3.0, or its options
				m := &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: 0, UnrecognizedOptions: unknown}
				if err := send(c, m); err != nil {
					return c, nil, err
				}
			}
			return c, parameters, nil
		default:
			return c, nil, fmt.Errorf("the protocol %d is not known", code)
		}
	}
	return c, nil, errors.New("too many requests before the start")
}

// startup reads a message without a type: its length and body.
func startup(c io.Reader) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(n[:])
	if length < 8 || length > maxStartup {
		return nil, errors.New("not a client of PostgreSQL")
	}
	body := make([]byte, length-4)
	_, err := io.ReadFull(c, body)
	return body, err
}

// parameters reads the pairs of a startup message; unknown are protocol options.
func parameters(body []byte) (known map[string]string, unknown []string) {
	known = map[string]string{}
	fields := strings.Split(string(body), "\x00")
	for i := 0; i+1 < len(fields) && fields[i] != ""; i += 2 {
		if strings.HasPrefix(fields[i], "_pq_.") {
			unknown = append(unknown, fields[i])
		} else {
			known[strings.ToLower(fields[i])] = fields[i+1]
		}
	}
	return known, unknown
}

// admit chooses the credential by the database that the job asks for, and checks the rest.
func (b *Broker) admit(may []*lent, p map[string]string) (*lent, map[string]string, error) {
	database := p["database"]
	l := may[0]
	if database != "" {
		i := slices.IndexFunc(may, func(l *lent) bool { return l.Rule.Database == "" || l.Rule.Database == database })
		if i < 0 {
			return l, nil, refuse(fmt.Sprintf("the credential %s is lent for the database %q, not for %.64q", l.Rule.Name, l.Rule.Database, database),
				"name the database when connecting; psql takes the user's name for it otherwise")
		}
		l = may[i]
	}
	settings := map[string]string{}
	for name, value := range p {
		switch {
		case name == "user" || name == "database" || name == "application_name" || name == "options" && strings.TrimSpace(value) == "":
		case slices.Contains(startParameters, name):
			settings[name] = value
		default:
			return l, nil, refuse(fmt.Sprintf("the parameter %.40q cannot be set when a credential is lent", name), "leave it out, or SET it when the session has begun")
		}
	}
	settings["application_name"] = "sallyport " + b.cfg.Run
	if l.Rule.Role != "" {
		settings["role"] = l.Rule.Role
	}
	if l.Rule.Database != "" {
		database = l.Rule.Database
	}
	settings["database"] = database
	return l, settings, nil
}

// connect authenticates at the server. Its certificate must be trusted by this host's roots, or be
// tied to the password by SCRAM's channel binding; without TLS only hosts of private networks are spoken to. The
// password itself is never sent, whatever the server asks for.
func (b *Broker) connect(ctx context.Context, l *lent, settings map[string]string) (*pgconn.HijackedConn, error) {
	// Nothing of this process's environment counts: all that it could say is said here.
	config, err := pgconn.ParseConfig("host=placeholder port=1 user=placeholder database=placeholder password=placeholder sslmode=disable passfile=/dev/null")
	if err != nil {
		return nil, err
	}
	config.Host, config.Port, config.User, config.Password = l.host, uint16(l.port), l.Rule.User, string(l.Value.Reveal())
	config.Database = settings["database"]
	delete(settings, "database")
	config.RuntimeParams, config.Fallbacks, config.KerberosSrvName = settings, nil, ""
	config.RequireAuth = "scram-sha-256"
	config.MinProtocolVersion, config.MaxProtocolVersion = "3.0", "3.0"
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil } // the door looks it up
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return b.cfg.Dial(ctx, "tcp", l.address()) }
	config.ConnectTimeout = startTime
	config.TLSConfig = b.cfg.ClientTLS.Clone()
	if config.TLSConfig == nil {
		config.TLSConfig = &tls.Config{}
	}
	config.TLSConfig.ServerName = l.host
	config.ChannelBinding = "prefer"

	conn, err := pgconn.ConnectConfig(ctx, config)
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted):
		config.TLSConfig.InsecureSkipVerify = true // the binding below proves more than a certificate
		config.ChannelBinding = "require"
		conn, err = pgconn.ConnectConfig(ctx, config)
	case err != nil && strings.Contains(err.Error(), "server refused TLS connection"):
		config.TLSConfig, config.ChannelBinding = nil, "disable"
		config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := b.cfg.Dial(ctx, "tcp", l.address())
			if err == nil && !private(c.RemoteAddr()) {
				c.Close()
				return nil, refuse("the server "+l.host+" has no TLS and is not in a private network", "turn on ssl in its postgresql.conf")
			}
			return c, err
		}
		conn, err = pgconn.ConnectConfig(ctx, config)
	}
	if err != nil {
		return nil, err
	}
	if err := checkRole(ctx, conn, l); err != nil {
		_ = conn.Close(ctx)
		return nil, err
	}
	return conn.Hijack()
}

func private(a net.Addr) bool {
	switch a := a.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback() || a.IP.IsPrivate()
	}
	return false
}

// roleQuery tells what the session could do beyond its tables, as its user or as any role that
// the user may become. Its names are all qualified, since the job chose the search_path.
const roleQuery = `SELECT
  coalesce((SELECT pg_catalog.string_agg(m.rolname, ', ' ORDER BY m.rolname) FROM pg_catalog.pg_roles m
    WHERE pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER') AND (m.rolsuper OR m.rolcreaterole OR m.rolreplication OR m.rolbypassrls)), ''),
  coalesce((SELECT pg_catalog.string_agg(m.rolname, ', ' ORDER BY m.rolname) FROM pg_catalog.pg_roles m
    WHERE pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')
      AND m.rolname OPERATOR(pg_catalog.=) ANY (ARRAY['pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files']::pg_catalog.name[])), ''),
  coalesce((SELECT pg_catalog.string_agg(m.rolname, ', ' ORDER BY m.rolname) FROM pg_catalog.pg_roles m
    WHERE $1 OPERATOR(pg_catalog.<>) '' AND m.oid OPERATOR(pg_catalog.<>) r.oid AND pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')
      AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles h WHERE h.rolname OPERATOR(pg_catalog.=) $1 AND pg_catalog.pg_has_role(h.oid, m.oid, 'MEMBER'))), ''),
  $1 OPERATOR(pg_catalog.<>) '' AND EXISTS (SELECT 1 FROM pg_catalog.pg_shdepend d
    WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) r.oid)
FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) session_user`

// checkRole refuses a role with which a job could leave its database: that is the
// boundary, and what statement.go looks for is a seat belt.
func checkRole(ctx context.Context, conn *pgconn.PgConn, l *lent) error {
	r := conn.ExecParams(ctx, roleQuery, [][]byte{[]byte(l.Rule.Role)}, []uint32{25}, nil, nil).Read()
	if r.Err != nil {
		return fmt.Errorf("look at the role: %w", r.Err)
	}
	if len(r.Rows) != 1 || len(r.Rows[0]) != 4 {
		return errors.New("look at the role: the server told nothing")
	}
	mend := "lend a role of its own: LOGIN, and the rights on the tables that the job needs"
	switch row := r.Rows[0]; {
	case len(row[0]) > 0:
		return refuse(fmt.Sprintf("the user of the credential %s is, or may become, a superuser or one that may make roles, replicate or bypass row security (%s)", l.Rule.Name, row[0]), mend)
	case len(row[1]) > 0:
		return refuse(fmt.Sprintf("the user of the credential %s may reach the server's files or programs (%s)", l.Rule.Name, row[1]), mend)
	case len(row[2]) > 0:
		return refuse(fmt.Sprintf("the user of the credential %s may become other roles than %s (%s)", l.Rule.Name, l.Rule.Role, row[2]), mend)
	case string(row[3]) != "f": // the job can always go back to the user
		return refuse(fmt.Sprintf("the user of the credential %s has rights or tables of its own, beyond the role %s", l.Rule.Name, l.Rule.Role),
			"lend a user that owns nothing and is granted the role alone; give what it needs, CONNECT too, to the role")
	}
	return nil
}

// enter gives the session a number and key of our own, for requests to cancel.
func (b *Broker) enter(l *lent, upstream *pgconn.HijackedConn) (uint32, *session) {
	s := &session{key: make([]byte, 4), upstream: upstream, lent: l}
	_, _ = rand.Read(s.key) // never fails
	for {
		var pid [4]byte
		_, _ = rand.Read(pid[:])
		n := binary.BigEndian.Uint32(pid[:]) >> 1
		if _, taken := b.sessions.LoadOrStore(n, s); !taken {
			return n, s
		}
	}
}

// cancel passes a request to cancel on, when its key is that of a session of this lease.
func (b *Broker) cancel(body []byte) {
	var m pgproto3.CancelRequest
	if m.Decode(body) != nil {
		return
	}
	v, ok := b.sessions.Load(m.ProcessID)
	if !ok {
		return
	}
	s := v.(*session)
	if subtle.ConstantTimeCompare(s.key, m.SecretKey) != 1 {
		return
	}
	ctx, stop := context.WithTimeout(b.ctx, startTime)
	defer stop()
	c, err := b.cfg.Dial(ctx, "tcp", s.lent.address())
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if s.upstream.TLSConfig != nil {
		answer := make([]byte, 1)
		if _, err := c.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, codeSSL)); err != nil {
			return
		}
		if _, err := io.ReadFull(c, answer); err != nil || answer[0] != 'S' {
			return
		}
		c = tls.Client(c, s.upstream.TLSConfig)
	}
	request, err := (&pgproto3.CancelRequest{ProcessID: s.upstream.PID, SecretKey: s.upstream.SecretKey}).Encode(nil)
	if err != nil {
		return
	}
	if _, err := c.Write(request); err == nil {
		_, _ = io.Copy(io.Discard, c) // the server closes when it has done it
	}
}

// greet tells the job that it is in.
func greet(c net.Conn, pid uint32, s *session) error {
	list := []pgproto3.BackendMessage{&pgproto3.AuthenticationOk{}}
	for name, value := range s.upstream.ParameterStatuses {
		list = append(list, &pgproto3.ParameterStatus{Name: name, Value: value})
	}
	list = append(list, &pgproto3.BackendKeyData{ProcessID: pid, SecretKey: s.key}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	return send(c, list...)
}

func send(c net.Conn, list ...pgproto3.BackendMessage) (err error) {
	var buf []byte
	for _, m := range list {
		if buf, err = m.Encode(buf); err != nil {
			return err
		}
	}
	_, err = c.Write(buf)
	return err
}

// fatal ends a session in words that clients show.
func (b *Broker) fatal(c net.Conn, err error) {
	m := &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "28000", Message: b.mask.Text("sallyport: " + reasonOf(err))}
	var refused *refusal
	if errors.As(err, &refused) {
		m.Hint = refused.mend
	}
	_ = send(c, m) // it may be gone
}

// reasonOf says what went wrong without what only an operator should read.
func reasonOf(err error) string {
	var refused *refusal
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		return refused.reason
	case errors.As(err, &pg):
		return "the server refused the credential: " + clip(pg.Message, 200)
	}
	return "the server could not be reached, or wants another authentication than SCRAM"
}
