package engine

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/egress"
)

// Bounds of what is kept of one attempt of a job. A job that knocks at the door a million
// times is counted, not listed.
const (
	maxDoorEntries = 500      // records, which a runner sends every few seconds at most
	maxDoorItems   = 5000     // flows, packages and uses of one record
	maxDoorBytes   = 16 << 20 // of all records
	maxLearnRuns   = 200
)

// Record keeps what the door of a job's room has seen.
func (y yard) Record(ctx context.Context, l sallyport.LeaseRef, seq int, r sallyport.DoorRecord) error {
	if err := y.e.allow(ctx, actYard, ""); err != nil {
		return err
	}
	if seq < 1 {
		return sallyport.Errorf(sallyport.CodeInvalid, "the records of a door are counted from 1")
	}
	return y.e.holding(ctx, l, func(c *change, _ sallyport.Work, j sallyport.Job) error {
		entry := sallyport.DoorEntry{Run: j.Run, Job: j.ID, Attempt: j.Attempt, Seq: seq, Record: boundDoor(r, c.now), At: c.now}
		n, bytes, err := c.Doors().Total(j.ID, j.Attempt)
		if err != nil {
			return err
		}
		encoded, err := json.Marshal(entry.Record)
		if err != nil {
			return err
		}
		if n >= maxDoorEntries { // the last that is kept said so
			return nil
		}
		if n == maxDoorEntries-1 || bytes+int64(len(encoded)) > maxDoorBytes {
			entry.Record = sallyport.DoorRecord{Lost: max(1, items(entry.Record))}
		}
		err = c.Doors().Insert(entry)
		if sallyport.ErrorCode(err) == sallyport.CodeConflict { // it came before
			return nil
		}
		c.Touch(topicRun(j.Run))
		return err
	})
}

func items(r sallyport.DoorRecord) int {
	return len(r.Flows) + len(r.Packages) + len(r.Uses) + r.Lost
}

// boundDoor makes text of what a runner says its door saw, and bounds it.
func boundDoor(r sallyport.DoorRecord, now time.Time) sallyport.DoorRecord {
	out := sallyport.DoorRecord{Lost: max(0, min(r.Lost, 1<<40))}
	left := maxDoorItems
	take := func(n int) int {
		kept := min(n, left)
		left -= kept
		out.Lost += n - kept
		return kept
	}
	// Uses of credentials first: they matter most.
	for _, u := range r.Uses[:take(len(r.Uses))] {
		u.Step, u.Credential, u.Host, u.Method = boundStep(u.Step), word(u.Credential, 100), word(u.Host, 260), word(u.Method, 40)
		u.Path, u.Reason, u.Decision = boundDigest(u.Path), word(u.Reason, 500), boundDecision(u.Decision)
		u.Status, u.Scrubbed = boundInt(u.Status, 999), boundInt(u.Scrubbed, 1<<30)
		u.Sent, u.Received, u.At = max(0, u.Sent), max(0, u.Received), boundTime(u.At, now)
		out.Uses = append(out.Uses, u)
	}
	for _, p := range r.Packages[:take(len(r.Packages))] {
		p.Step, p.PURL, p.Source, p.Digest = boundStep(p.Step), word(p.PURL, 600), word(p.Source, 500), boundDigest(p.Digest)
		p.Size, p.Reason, p.Decision, p.At = max(0, p.Size), word(p.Reason, 500), boundDecision(p.Decision), boundTime(p.At, now)
		out.Packages = append(out.Packages, p)
	}
	for _, f := range r.Flows[:take(len(r.Flows))] {
		f.Step, f.Protocol, f.Host, f.Address = boundStep(f.Step), word(f.Protocol, 20), word(f.Host, 260), word(f.Address, 64)
		f.Port, f.Reason, f.Rule, f.Decision = boundInt(f.Port, 65535), word(f.Reason, 100), word(f.Rule, 100), boundDecision(f.Decision)
		f.Count, f.Sent, f.Received = max(1, boundInt(f.Count, 1<<40)), max(0, f.Sent), max(0, f.Received)
		f.First, f.Last = boundTime(f.First, now), boundTime(f.Last, now)
		out.Flows = append(out.Flows, f)
	}
	return out
}

func boundStep(n int) int      { return boundInt(n, maxSteps) }
func boundInt(n, most int) int { return max(0, min(n, most)) }

// boundTime puts a time that cannot be at the end.
func boundTime(t, now time.Time) time.Time {
	if t.IsZero() || t.After(now) || now.Sub(t) > 40*24*time.Hour { // no job is longer
		return now
	}
	return t.UTC().Truncate(time.Microsecond)
}

// boundDecision takes an unknown word for the one that somebody will look at.
func boundDecision(d sallyport.EgressDecision) sallyport.EgressDecision {
	if d == sallyport.EgressAllowed || d == sallyport.EgressObserved {
		return d
	}
	return sallyport.EgressDenied
}

func boundDigest(d sallyport.Digest) sallyport.Digest {
	got, err := sallyport.ParseDigest(string(d))
	if err != nil {
		return ""
	}
	return got
}

// word is text of one line.
func word(s string, n int) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text(s, n))
}

// doors implements sallyport.Doors.
type doors struct{ e *Engine }

func (s doors) Doors(ctx context.Context, id sallyport.RunID) ([]sallyport.Door, error) {
	if _, err := runs(s).run(ctx, actRead, id); err != nil {
		return nil, err
	}
	var out []sallyport.Door
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		_, out, err = runDoors(tx, id)
		return err
	})
	return out, err
}

// runDoors returns the doors of a run's jobs that started, in the order of the jobs, and its plan.
func runDoors(tx sallyport.Tx, id sallyport.RunID) (*sallyport.Plan, []sallyport.Door, error) {
	encoded, err := tx.Runs().Plan(id)
	if err != nil {
		return nil, nil, err
	}
	plan, err := decodePlan(encoded)
	if err != nil {
		return nil, nil, err
	}
	jobs, err := tx.Jobs().Outline(id)
	if err != nil {
		return nil, nil, err
	}
	entries, err := tx.Doors().ByRun(id)
	if err != nil {
		return nil, nil, err
	}
	var out []sallyport.Door
	for _, j := range inOrder(jobs) {
		if j.Attempt == 0 || j.Uses != "" { // it never ran, or others did for it
			continue
		}
		out = append(out, sallyport.Door{Job: j.ID, Name: j.Name, Key: topKey(j), Attempt: j.Attempt, Rules: ofJob(planEgress(plan), j), Record: doorOf(entries, j)})
	}
	return plan, out, nil
}

// doorOf puts the records of a job's last attempt together.
func doorOf(entries []sallyport.DoorEntry, j sallyport.Job) sallyport.DoorRecord {
	var r sallyport.DoorRecord
	for _, e := range entries {
		if e.Job == j.ID && e.Attempt == j.Attempt {
			r.Add(e.Record)
		}
	}
	return r
}

func (s doors) EgressRules(ctx context.Context, id sallyport.ProjectID) (sallyport.EgressRules, error) {
	if err := s.e.allow(ctx, actRead, id); err != nil {
		return sallyport.EgressRules{}, err
	}
	p, err := s.e.project(ctx, id)
	if err != nil {
		return sallyport.EgressRules{}, err
	}
	refs, err := s.e.repos.Refs(ctx, id)
	if err != nil {
		return sallyport.EgressRules{}, err
	}
	return s.e.egressRules(ctx, id, refs[p.DefaultRef()])
}

func (s doors) Learn(ctx context.Context, id sallyport.ProjectID, last int, file []byte) (sallyport.EgressProposal, error) {
	if err := s.e.allow(ctx, actRead, id); err != nil {
		return sallyport.EgressProposal{}, err
	}
	if last < 1 || last > maxLearnRuns {
		return sallyport.EgressProposal{}, sallyport.Errorf(sallyport.CodeInvalid, "rules are learned from 1 to %d runs", maxLearnRuns)
	}
	if file == nil {
		var err error
		if file, err = s.protectedFile(ctx, id); err != nil {
			return sallyport.EgressProposal{}, err
		}
	}
	var seen []egress.Seen
	looked := 0
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		seen, looked = nil, 0
		list, err := tx.Runs().List(sallyport.RunFilter{Project: id, Page: sallyport.Page{Limit: last}})
		if err != nil {
			return err
		}
		for _, r := range list {
			_, all, err := runDoors(tx, r.ID)
			if err != nil {
				return err
			}
			for _, d := range all {
				seen = append(seen, egress.Seen{Job: d.Key, Flows: d.Record.Flows})
			}
			looked++
		}
		return nil
	})
	if err != nil {
		return sallyport.EgressProposal{}, err
	}
	slices.Reverse(seen) // oldest first, as one would have added them
	p, err := egress.Learn(file, s.e.egress, seen)
	p.Runs = looked
	return p, err
}

// protectedFile is the rules file of the protected branch; empty when there is none.
func (s doors) protectedFile(ctx context.Context, id sallyport.ProjectID) ([]byte, error) {
	p, err := s.e.project(ctx, id)
	if err != nil {
		return nil, err
	}
	refs, err := s.e.repos.Refs(ctx, id)
	if err != nil || refs[p.DefaultRef()] == "" {
		return nil, err
	}
	src, err := s.e.repos.ReadFile(ctx, id, refs[p.DefaultRef()], egress.File, egress.MaxBytes)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return nil, nil
	}
	return src, err
}
