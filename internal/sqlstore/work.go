package sqlstore

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// Work is free while its token is "", and leased with one. A lease that ends at
// T is over at T.
const workColumns = "id, queue, key, subject, labels, run_at, attempt, max_attempts, owner, token, lease_until, last_error, created_at"

const (
	workHas     = "SELECT queue FROM work WHERE id = $1"
	workEnqueue = "INSERT INTO work (" + workColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '', '', 0, $9, $10)" +
		" ON CONFLICT (queue, key) DO UPDATE SET run_at = excluded.run_at WHERE excluded.run_at < work.run_at"

	workAnyLabels = "CAST($3 AS TEXT) = ''"

	workExtend    = "UPDATE work SET lease_until = $3 WHERE id = $1 AND token = $2"
	workDone      = "DELETE FROM work WHERE id = $1 AND token = $2"
	workRetry     = "UPDATE work SET owner = '', token = '', lease_until = 0, run_at = $3, last_error = $4 WHERE id = $1 AND token = $2"
	workBySubject = "SELECT " + workColumns + " FROM work WHERE queue = $1 AND subject = $2 ORDER BY run_at, id"
	workDrop      = "DELETE FROM work WHERE queue = $1 AND subject = $2"
	workRelease   = "UPDATE work SET owner = '', token = '', lease_until = 0 WHERE owner = $1 AND token <> ''"
	workCounts    = "SELECT queue, COUNT(*)," +
		" COALESCE(MIN(CASE WHEN token = '' AND run_at > $1 THEN run_at WHEN token <> '' AND lease_until > $1 THEN lease_until END), 0)" +
		" FROM work GROUP BY queue"
)

// workClaim takes the oldest of the free and of those whose lease is over, each
// found by an index of its own: work that others are busy with costs a claim nothing.
func workClaim(labels string) string {
	const due = "SELECT id, run_at FROM work WHERE queue = $1 AND run_at <= $2 AND "
	free := due + "token = '' AND " + labels + " ORDER BY run_at, id LIMIT $7"
	lapsed := due + "token <> '' AND lease_until <= $2 AND " + labels + " ORDER BY run_at, id LIMIT $7"
	return "UPDATE work SET owner = $4, token = $5, lease_until = $6, attempt = attempt + 1 WHERE id IN (" +
		"SELECT id FROM (SELECT * FROM (" + free + ") AS free UNION ALL SELECT * FROM (" + lapsed + ") AS lapsed) AS claim" +
		" ORDER BY run_at, id LIMIT $7) RETURNING " + workColumns
}

func scanWork(r scanner) (w sallyport.Work, err error) {
	err = r.Scan(&w.ID, &w.Queue, &w.Key, &w.Subject, fromJSON{&w.Labels}, stamp{&w.RunAt}, &w.Attempt, &w.MaxAttempts, &w.Owner, &w.Token,
		stamp{&w.LeaseUntil}, &w.LastError, stamp{&w.CreatedAt})
	return w, err
}

// labelsJSON encodes labels as an array, also when there are none.
func labelsJSON(labels []string) (string, error) {
	for _, l := range labels {
		if len(l) > 256 || l == "" || slices.Contains([]byte(l), 0) { // a NUL has no place in PostgreSQL's JSON
			return "", sallyport.Errorf(sallyport.CodeInvalid, "%.40q is not a label", l).WithHint("use 1 to 256 bytes of text")
		}
	}
	b, err := json.Marshal(append([]string{}, labels...))
	return string(b), err
}

func (t work) Enqueue(w sallyport.Work) error {
	labels, err := labelsJSON(w.Labels)
	if err != nil {
		return err
	}
	if ids, err := many(t.tx, scanText, workHas, w.ID); err != nil {
		return err
	} else if len(ids) > 0 {
		return sallyport.Errorf(sallyport.CodeConflict, "the work exists already")
	}
	_, err = t.exec(workEnqueue, w.ID, w.Queue, w.Key, w.Subject, labels, micros(w.RunAt), w.Attempt, w.MaxAttempts, w.LastError, micros(w.CreatedAt))
	return err
}

func (t work) Claim(queue, owner string, labels []string, now, until time.Time, limit int) ([]sallyport.Work, error) {
	if limit <= 0 {
		return nil, nil
	}
	query, within := t.d.claimAny, ""
	if labels != nil {
		var err error
		if within, err = labelsJSON(labels); err != nil {
			return nil, err
		}
		query = t.d.claimLabelled
	}
	// One token for all that this claim takes: it is fresh for each of them.
	list, err := changed(t.tx, scanWork, query, queue, micros(now), within, owner, newToken(), micros(until), limit)
	slices.SortFunc(list, func(a, b sallyport.Work) int {
		return cmp.Or(a.RunAt.Compare(b.RunAt), cmp.Compare(a.ID, b.ID))
	})
	return list, err
}

// fenced runs a statement that only the holder of the lease may run.
func (t work) fenced(query string, args ...any) error {
	n, err := t.exec(query, args...)
	if err == nil && n == 0 {
		return sallyport.Errorf(sallyport.CodeConflict, "the lease was lost").WithHint("stop working on it; somebody else may have it")
	}
	return err
}

func (t work) Extend(id sallyport.WorkID, token string, until time.Time) error {
	if token == "" {
		return t.noToken()
	}
	return t.fenced(workExtend, id, token, micros(until))
}

func (t work) Done(id sallyport.WorkID, token string) error {
	if token == "" {
		return t.noToken()
	}
	return t.fenced(workDone, id, token)
}

func (t work) Retry(id sallyport.WorkID, token string, at time.Time, lastError string) error {
	if token == "" {
		return t.noToken()
	}
	return t.fenced(workRetry, id, token, micros(at), lastError)
}

// noToken refuses the token that free work has.
func (t work) noToken() error {
	return sallyport.Errorf(sallyport.CodeConflict, "there is no lease without a token")
}

func (t work) BySubject(queue, subject string) ([]sallyport.Work, error) {
	return many(t.tx, scanWork, workBySubject, queue, subject)
}

func (t work) Drop(queue, subject string) error {
	_, err := t.exec(workDrop, queue, subject)
	return err
}

func (t work) Release(owner string) error {
	_, err := t.exec(workRelease, owner)
	return err
}

func (t work) Counts(now time.Time) (map[string]int, map[string]time.Time, error) {
	type row struct {
		queue string
		count int
		next  time.Time
	}
	rows, err := many(t.tx, func(r scanner) (v row, err error) {
		err = r.Scan(&v.queue, &v.count, stamp{&v.next})
		return v, err
	}, workCounts, micros(now))
	if err != nil {
		return nil, nil, err
	}
	count, next := make(map[string]int, len(rows)), make(map[string]time.Time, len(rows))
	for _, r := range rows {
		count[r.queue], next[r.queue] = r.count, r.next
	}
	return count, next, nil
}
