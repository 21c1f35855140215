package sallyporttest

import (
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func testDoors(t *testing.T, s sallyport.Store) {
	push := insertPush(t, s)
	run := newRun(push, 1)
	insertRun(t, s, run)
	want := filled[sallyport.DoorEntry](t)
	want.Run, want.Attempt, want.Seq, want.At = run.ID, 2, 2, epoch.Add(time.Hour)
	first := sallyport.DoorEntry{Run: run.ID, Job: want.Job, Attempt: 2, Seq: 1, At: epoch,
		Record: sallyport.DoorRecord{Flows: []sallyport.Flow{{Protocol: "dns", Host: "a.example.com", Decision: sallyport.EgressDenied, Count: 3, First: epoch, Last: epoch}}}}
	before := sallyport.DoorEntry{Run: run.ID, Job: want.Job, Attempt: 1, Seq: 1, At: epoch, Record: sallyport.DoorRecord{Lost: 7}}
	update(t, s, func(tx sallyport.Tx) error {
		ds := tx.Doors()
		for _, d := range []sallyport.DoorEntry{want, first, before} {
			if err := ds.Insert(d); err != nil {
				return err
			}
		}
		again := want
		again.At, again.Record = epoch, sallyport.DoorRecord{}
		wantErr(t, "same record", ds.Insert(again), sallyport.CodeConflict)
		got, err := ds.ByRun(run.ID)
		wantEqual(t, "records", got, []sallyport.DoorEntry{before, first, want})
		if err != nil {
			return err
		}
		for attempt, want := range map[int]int64{1: 1, 2: 2, 3: 0} {
			n, bytes, err := ds.Total(first.Job, attempt)
			if err != nil {
				return err
			}
			wantEqual(t, "records of an attempt", n, want)
			if bytes < 2*want || want == 0 && bytes != 0 {
				t.Errorf("attempt %d: got %d bytes", attempt, bytes)
			}
		}
		got, err = ds.ByRun("other")
		wantEqual(t, "records of another run", len(got), 0)
		return err
	})
}
