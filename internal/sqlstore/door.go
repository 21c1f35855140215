package sqlstore

import "github.com/sallyport-ci/sallyport"

const (
	doorInsert = "INSERT INTO door_records (run, job, attempt, seq, record, size, at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"
	doorTotal  = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM door_records WHERE job = $1 AND attempt = $2"
	doorByRun  = "SELECT run, job, attempt, seq, record, at FROM door_records WHERE run = $1 ORDER BY job, attempt, seq"
)

func (t doors) Insert(d sallyport.DoorEntry) error {
	record, err := asJSON(d.Record).encode()
	if err != nil {
		return err
	}
	return t.insert("record of a door", doorInsert, d.Run, d.Job, d.Attempt, d.Seq, record, len(record), micros(d.At))
}

func (t doors) Total(j sallyport.JobID, attempt int) (entries, bytes int64, err error) {
	type total struct{ entries, bytes int64 }
	all, err := one(t.tx, "job", func(r scanner) (v total, err error) {
		err = r.Scan(&v.entries, &v.bytes)
		return v, err
	}, doorTotal, j, attempt)
	return all.entries, all.bytes, err
}

func (t doors) ByRun(id sallyport.RunID) ([]sallyport.DoorEntry, error) {
	return many(t.tx, func(r scanner) (d sallyport.DoorEntry, err error) {
		err = r.Scan(&d.Run, &d.Job, &d.Attempt, &d.Seq, fromJSON{&d.Record}, stamp{&d.At})
		return d, err
	}, doorByRun, id)
}
