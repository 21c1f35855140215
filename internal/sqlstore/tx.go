package sqlstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport-ci/sallyport"
)

// tx is one transaction: a View, or one turn of Update.
type tx struct {
	// The contexts live as long as the transaction. ctx is the caller's and looked
	// at between statements; quiet is that of the statements.
	ctx, quiet context.Context
	d          *dialect
	s          *session
	write      bool
	topics     []string
	err        error // the first failed statement; the transaction is doomed
	ended      error // the failure with which the engine gave up the whole transaction
	over       bool
}

var _ sallyport.Tx = (*tx)(nil)

type (
	projects     struct{ *tx }
	pushes       struct{ *tx }
	runs         struct{ *tx }
	jobs         struct{ *tx }
	work         struct{ *tx }
	artifacts    struct{ *tx }
	statements   struct{ *tx }
	verdicts     struct{ *tx }
	releases     struct{ *tx }
	deployments  struct{ *tx }
	environments struct{ *tx }
	audit        struct{ *tx }
	tokens       struct{ *tx }
	caches       struct{ *tx }
	doors        struct{ *tx }
	secrets      struct{ *tx }
	rotations    struct{ *tx }
	issuer       struct{ *tx }
	accounts     struct{ *tx }
	logins       struct{ *tx }
	accessFiles  struct{ *tx }
	requests     struct{ *tx }
	grants       struct{ *tx }
	accessEvents struct{ *tx }
	stops        struct{ *tx }
)

func (t *tx) Projects() sallyport.ProjectTx         { return projects{t} }
func (t *tx) Pushes() sallyport.PushTx              { return pushes{t} }
func (t *tx) Runs() sallyport.RunTx                 { return runs{t} }
func (t *tx) Jobs() sallyport.JobTx                 { return jobs{t} }
func (t *tx) Work() sallyport.WorkTx                { return work{t} }
func (t *tx) Artifacts() sallyport.ArtifactTx       { return artifacts{t} }
func (t *tx) Statements() sallyport.StatementTx     { return statements{t} }
func (t *tx) Verdicts() sallyport.VerdictTx         { return verdicts{t} }
func (t *tx) Releases() sallyport.ReleaseTx         { return releases{t} }
func (t *tx) Deployments() sallyport.DeploymentTx   { return deployments{t} }
func (t *tx) Environments() sallyport.EnvironmentTx { return environments{t} }
func (t *tx) Audit() sallyport.AuditTx              { return audit{t} }
func (t *tx) Tokens() sallyport.TokenTx             { return tokens{t} }
func (t *tx) Caches() sallyport.CacheTx             { return caches{t} }
func (t *tx) Doors() sallyport.DoorTx               { return doors{t} }
func (t *tx) Secrets() sallyport.SecretTx           { return secrets{t} }
func (t *tx) Rotations() sallyport.RotationTx       { return rotations{t} }
func (t *tx) Accounts() sallyport.AccountTx         { return accounts{t} }
func (t *tx) Logins() sallyport.LoginTx             { return logins{t} }
func (t *tx) AccessFiles() sallyport.AccessFileTx   { return accessFiles{t} }
func (t *tx) Requests() sallyport.RequestTx         { return requests{t} }
func (t *tx) Grants() sallyport.GrantTx             { return grants{t} }
func (t *tx) AccessEvents() sallyport.AccessEventTx { return accessEvents{t} }
func (t *tx) Stops() sallyport.StopTx               { return stops{t} }
func (t *tx) Issuer() sallyport.IssuerTx            { return issuer{t} }

// Touch signals the topic's watchers after the commit. A topic has no line end, and at most 1 KiB.
func (t *tx) Touch(topic string) {
	if len(topic) > 1024 || strings.ContainsAny(topic, "\n\x00") || !utf8.ValidString(topic) {
		t.doom(sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not a topic", topic))
		return
	}
	t.topics = append(t.topics, topic)
}

var (
	errOver  = errors.New("a transaction was used after its end")
	errWrite = errors.New("a view cannot write")
)

// ready refuses statements that cannot succeed, and checks their arguments.
func (t *tx) ready(write bool, args []any) error {
	switch {
	case t.over:
		return errOver
	case t.err != nil:
		return t.err
	case write && !t.write:
		return t.doom(errWrite)
	case t.ctx.Err() != nil:
		return t.doom(fmt.Errorf("transaction: %w", t.ctx.Err()))
	}
	for i, a := range args {
		if j, ok := a.(jsonText); ok {
			text, err := j.encode()
			if err != nil {
				return err
			}
			a = text
		}
		v := reflect.ValueOf(a)
		if v.Kind() != reflect.String {
			continue
		}
		text := v.String() // drivers know string, not each of our id types
		if strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text) {
			return sallyport.Errorf(sallyport.CodeInvalid, "%.40q is not text: it is not UTF-8 or holds a NUL", text)
		}
		args[i] = text
	}
	return nil
}

// doom makes the transaction fail whatever its function returns.
func (t *tx) doom(err error) error {
	if t.err == nil {
		t.err = err
	}
	return err
}

// fail explains a driver's error, which dooms the transaction.
func (t *tx) fail(err error) error {
	if t.quiet.Err() == nil && t.ctx.Err() != nil && !t.write {
		return t.doom(fmt.Errorf("transaction: %w", t.ctx.Err()))
	}
	f := t.d.classify(err)
	if f.ends() && t.ended == nil {
		t.ended = err
	}
	return t.doom(f.explain(err))
}

// exec returns the number of rows that the statement changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	if err := t.ready(true, args); err != nil {
		return 0, err
	}
	r, err := t.s.exec(t.quiet, query, args...)
	if err != nil {
		return 0, t.fail(err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return 0, t.fail(err)
	}
	return n, nil
}

// insert runs an INSERT … ON CONFLICT DO NOTHING. An insert that violates a key
// would end a PostgreSQL transaction, and the caller may want to go on.
func (t *tx) insert(what string, query string, args ...any) error {
	n, err := t.exec(query, args...)
	if err == nil && n == 0 {
		return sallyport.Errorf(sallyport.CodeConflict, "the %s exists already", what)
	}
	return err
}

// change runs an UPDATE or DELETE of what has to exist.
func (t *tx) change(what string, query string, args ...any) error {
	n, err := t.exec(query, args...)
	if err == nil && n == 0 {
		return notFound(what)
	}
	return err
}

func notFound(what string) error {
	return sallyport.Errorf(sallyport.CodeNotFound, "there is no such %s", what)
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// many returns all rows of a query.
func many[T any](t *tx, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	return collect(t, false, scan, query, args)
}

// changed returns the rows of a statement that writes and RETURNs.
func changed[T any](t *tx, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	return collect(t, true, scan, query, args)
}

func collect[T any](t *tx, write bool, scan func(scanner) (T, error), query string, args []any) (out []T, err error) {
	if err := t.ready(write, args); err != nil {
		return nil, err
	}
	rows, err := t.s.query(t.quiet, query, args...)
	if err != nil {
		return nil, t.fail(err)
	}
	defer rows.Close()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, t.fail(err)
		}
		out = append(out, v)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, t.fail(err)
	}
	return out, nil
}

// one returns the only row of a query, CodeNotFound when there is none.
func one[T any](t *tx, what string, scan func(scanner) (T, error), query string, args ...any) (v T, err error) {
	rows, err := many(t, scan, query, args...)
	if err == nil && len(rows) == 0 {
		err = notFound(what)
	}
	if err != nil {
		return v, err
	}
	return rows[0], nil
}

func scanInt(r scanner) (n int64, err error) {
	err = r.Scan(&n)
	return n, err
}

func scanText(r scanner) (s string, err error) {
	err = r.Scan(&s)
	return s, err
}

func scanBytes(r scanner) (b []byte, err error) {
	err = r.Scan(&b)
	return b, err
}

// micros is how a time is kept: unix microseconds, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// stamp scans what micros made.
type stamp struct{ to *time.Time }

func (s stamp) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a time is %T", v)
	}
	*s.to = time.Time{}
	if n != 0 {
		*s.to = time.UnixMicro(n).UTC()
	}
	return nil
}

// asJSON is how a structured value is kept; empty values are "".
func asJSON(v any) jsonText { return jsonText{v} }

type jsonText struct{ v any }

func (j jsonText) encode() (string, error) {
	v := reflect.ValueOf(j.v)
	if v.IsZero() || (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0 {
		return "", nil
	}
	b, err := json.Marshal(j.v)
	if err != nil {
		return "", &sallyport.Error{Code: sallyport.CodeInvalid, Message: "it holds a value that cannot be kept", Err: err}
	}
	return string(b), nil
}

// fromJSON scans what asJSON made; to is a pointer to a zero value.
type fromJSON struct{ to any }

func (j fromJSON) Scan(v any) error {
	b, err := textBytes(v)
	if err != nil || len(b) == 0 {
		return err
	}
	return json.Unmarshal(b, j.to)
}

// verbatim scans JSON text that was kept byte for byte.
type verbatim struct{ to *json.RawMessage }

func (r verbatim) Scan(v any) error {
	b, err := textBytes(v)
	*r.to = nil
	if len(b) > 0 {
		*r.to = append(json.RawMessage(nil), b...)
	}
	return err
}

func textBytes(v any) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return []byte(v), nil
	case []byte:
		return v, nil
	default:
		return nil, fmt.Errorf("text is %T", v)
	}
}

// blob is how bytes are kept: nil as empty.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// newToken returns 128 random bits, to tell a lease or a process from all others.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

const (
	pageDefault = 50
	pageMax     = 200
	// lastID is above every id: the place to begin a list newest first.
	lastID = "g"
)

// page returns the bound and the number of rows of a list.
func page(p sallyport.Page) (before string, limit int) {
	before = p.Before
	if before == "" {
		before = lastID
	}
	return before, bound(p.Limit)
}

func bound(limit int) int {
	if limit <= 0 {
		return pageDefault
	}
	return min(limit, pageMax)
}

// filter is the WHERE of a list with optional conditions.
type filter struct {
	where []string
	args  []any
}

// and adds a condition, in which $? stands for arg.
func (f *filter) and(condition string, arg any) {
	f.args = append(f.args, arg)
	f.where = append(f.where, strings.ReplaceAll(condition, "$?", f.place()))
}

func (f *filter) place() string { return "$" + strconv.Itoa(len(f.args)) }

// query returns the select with its conditions and the rest, in which $? stands for the limit.
func (f *filter) query(selects, rest string, limit int) (string, []any) {
	if len(f.where) > 0 {
		selects += " WHERE " + strings.Join(f.where, " AND ")
	}
	f.args = append(f.args, limit)
	return selects + strings.ReplaceAll(rest, "$?", f.place()), f.args
}
