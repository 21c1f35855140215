package sqlstore

import "github.com/sallyport-ci/sallyport"

const auditColumns = "seq, at, actor, action, object, detail, salt, log_index"

const (
	// There is one writer at a time until its commit, so the next number is the
	// last one and one.
	auditAppend = "INSERT INTO audit (" + auditColumns + ") VALUES ((SELECT COALESCE(MAX(seq), -1) + 1 FROM audit), $1, $2, $3, $4, $5, $6, -1) RETURNING seq"
	auditRange  = "SELECT " + auditColumns + " FROM audit WHERE seq >= $1 ORDER BY seq LIMIT $2"
	auditTodo   = "SELECT " + auditColumns + " FROM audit WHERE log_index < 0 ORDER BY seq LIMIT $1"
	auditLogged = "UPDATE audit SET log_index = $3 WHERE seq BETWEEN $1 AND $2 AND log_index < 0"
	auditList   = "SELECT " + auditColumns + " FROM audit"
	auditNewest = " ORDER BY seq DESC LIMIT $?"
	auditLength = "SELECT COALESCE(MAX(seq), -1) + 1 FROM audit"
	auditWait   = "SELECT COUNT(*) FROM audit WHERE log_index < 0"
)

func scanAudit(r scanner) (a sallyport.AuditRecord, err error) {
	err = r.Scan(&a.Seq, stamp{&a.At}, &a.Actor, &a.Action, &a.Object, verbatim{&a.Detail}, &a.Salt, &a.LogIndex)
	return a, err
}

func (t audit) Append(a sallyport.AuditRecord) (int64, error) {
	seq, err := changed(t.tx, scanInt, auditAppend, micros(a.At), a.Actor, a.Action, a.Object, string(a.Detail), blob(a.Salt))
	if err != nil {
		return 0, err
	}
	return seq[0], nil
}

func (t audit) Unlogged(limit int) ([]sallyport.AuditRecord, error) {
	return many(t.tx, scanAudit, auditTodo, max(limit, 0))
}

// SetLogged answers CodeConflict when one of the records is missing or logged already.
func (t audit) SetLogged(from, to, index int64) error {
	n, err := t.exec(auditLogged, from, to, index)
	if err == nil && n != to-from+1 {
		return t.doom(sallyport.Errorf(sallyport.CodeConflict, "of the audit records %d to %d, %d are there and not logged yet", from, to, n))
	}
	return err
}

func (t audit) Range(from int64, limit int) ([]sallyport.AuditRecord, error) {
	return many(t.tx, scanAudit, auditRange, from, max(limit, 0))
}

func (t audit) List(f sallyport.AuditFilter) ([]sallyport.AuditRecord, error) {
	var w filter
	if f.Actor != "" {
		w.and("actor = $?", f.Actor)
	}
	if f.Action != "" {
		w.and("substr(action, 1, length($?)) = $?", f.Action)
	}
	if f.Object != "" {
		w.and("object = $?", f.Object)
	}
	if f.Before > 0 {
		w.and("seq < $?", f.Before)
	}
	query, args := w.query(auditList, auditNewest, bound(f.Limit))
	return many(t.tx, scanAudit, query, args...)
}

// Count takes the number of records from the last one: there are no gaps, and
// who looks for tampering reads them all anyway.
func (t audit) Count() (records, logged int64, err error) {
	length, err := many(t.tx, scanInt, auditLength)
	if err != nil {
		return 0, 0, err
	}
	waiting, err := many(t.tx, scanInt, auditWait)
	if err != nil {
		return 0, 0, err
	}
	return length[0], length[0] - waiting[0], nil
}
