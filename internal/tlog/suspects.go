package tlog

import (
	"fmt"

	"github.com/sallyport-ci/sallyport"
)

// maxCompared bounds the search for records that changed places, whose cost
// grows with the square.
const maxCompared = 256

// suspects are the records that are not as they were logged. Since a
// commitment covers the sequence number, a record that was moved is found by
// asking whether it would fit another place.
type suspects struct {
	places  []place // where the log and the trail differ, by sequence number
	records []sallyport.AuditRecord
	rest    []int64 // differing records beyond maxCompared
}

// place is a sequence number with what was logged for it.
type place struct {
	seq    int64
	logged digest
}

// differs notes a record that does not fit its place.
func (s *suspects) differs(r sallyport.AuditRecord, logged digest) {
	if len(s.records) >= maxCompared {
		s.rest = append(s.rest, r.Seq)
		return
	}
	s.records = append(s.records, r)
	s.places = append(s.places, place{r.Seq, logged})
}

// lost notes a place without a record.
func (s *suspects) lost(seq int64, logged digest) {
	if len(s.places) < 2*maxCompared {
		s.places = append(s.places, place{seq, logged})
	}
}

// explain says what happened to each record that differs.
func (s *suspects) explain() []sallyport.AuditProblem {
	cameFrom := map[int64]int64{} // record kept as key was logged as value
	kept := map[int64]bool{}      // what was logged as key is kept somewhere
	for _, r := range s.records {
		for _, p := range s.places {
			at := r
			at.Seq = p.seq
			if p.seq != r.Seq && Commitment(at) == p.logged {
				cameFrom[r.Seq], kept[p.seq] = p.seq, true
				break
			}
		}
	}
	var out []sallyport.AuditProblem
	add := func(seq int64, kind, format string, args ...any) {
		out = append(out, sallyport.AuditProblem{Seq: seq, Kind: kind, Text: fmt.Sprintf(format, args...)})
	}
	for _, r := range s.records {
		from, moved := cameFrom[r.Seq]
		switch {
		case moved && kept[r.Seq]:
			add(r.Seq, problemReordered, "what is kept as record %d was logged as record %d", r.Seq, from)
		case moved:
			add(r.Seq, problemDeleted, "record %d is gone: what is kept in its place was logged as record %d", r.Seq, from)
		case r.LogIndex < 0:
			add(r.Seq, problemRolled, "record %d differs from what was logged and is not marked as logged: an older database was restored and written to", r.Seq)
		default:
			add(r.Seq, problemEdited, "record %d differs from what was logged", r.Seq)
		}
	}
	for _, seq := range s.rest {
		add(seq, problemEdited, "record %d differs from what was logged", seq)
	}
	return out
}
