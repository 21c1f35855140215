package tlog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/sallyport-ci/sallyport"
)

// Kinds of sallyport.AuditProblem.
const (
	problemEdited    = "edited"
	problemDeleted   = "deleted"
	problemReordered = "reordered"
	problemTruncated = "truncated"
	problemRolled    = "rolled_back"
	problemLog       = "log"
	problemWitness   = "witness"
)

const (
	// maxProblems bounds a report: a trail that is wrong in more places is wrong.
	maxProblems = 100
	// sourcePage is how many records are read at a time.
	sourcePage = 1000
)

// VerifyAudit compares the whole audit trail with the audit log in dir: every
// record with its commitment, the entries with the Merkle root, the root with
// the checkpoint, and the checkpoint with the key. It only reads, needs no
// running control plane, and works beside one.
//
// What it finds is in the report; records are named by Seq. An error means that
// it could not look (the database or the disk failed). It cannot find records
// that were never written, nor a trail, log and marks that were all set back
// together to an older state: that takes a checkpoint kept elsewhere.
func VerifyAudit(ctx context.Context, source Source, dir, origin string, key ed25519.PublicKey) (sallyport.AuditReport, error) {
	verifier, err := newNoteVerifier(origin, key)
	if err != nil {
		return sallyport.AuditReport{}, fmt.Errorf("verify audit: %w", err)
	}
	a := &auditor{
		verifier: verifier,
		records:  trail{source: source},
		tree:     (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0),
	}
	if err := a.run(ctx, dir); err != nil {
		return sallyport.AuditReport{}, fmt.Errorf("verify audit: %w", err)
	}
	a.report.OK = len(a.report.Problems) == 0
	return a.report, nil
}

// auditor is one walk over trail and log.
type auditor struct {
	verifier note.Verifier
	records  trail
	leaves   leafReader
	tree     *compact.Range
	report   sallyport.AuditReport
	dropped  int // problems beyond maxProblems

	next    int64   // first record that no entry read so far commits to
	isCut   bool    // the log goes on where the trail ends
	cut     int64   // first record that the trail lacks then
	last    int64   // LogIndex of the last record seen
	altered []int64 // first records of entries that are not as the tiles have them
	moved   suspects

	cosigned  *cosigned // what others vouch for; nil when nobody is asked
	witnessed int64     // records that are as the witnesses cosigned them
}

func (a *auditor) run(ctx context.Context, dir string) error {
	d, err := openLogDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		a.problem(-1, problemLog, "there is no audit log")
		return nil
	}
	if err != nil {
		return err
	}
	defer d.close()
	return a.inspect(ctx, d)
}

// inspect compares the trail with an open log.
func (a *auditor) inspect(ctx context.Context, d *logDir) error {
	a.leaves.dir = d
	defer a.conclude()
	for first := true; ; first = false {
		head, ok := a.head(d)
		if !ok {
			return nil
		}
		if head.Size < a.tree.End() {
			a.problem(-1, problemLog, fmt.Sprintf("the log shrank from %d to %d entries while it was read", a.tree.End(), head.Size))
			return nil
		}
		grew := head.Size > a.tree.End()
		if broken, err := a.walk(ctx, head); err != nil || broken {
			return err
		}
		// A record beyond this head may have been logged while we read: then a newer
		// head covers it.
		r, err := a.records.peek(ctx)
		if err != nil {
			return err
		}
		if r == nil || r.LogIndex < 0 || !grew && !first {
			return a.unlogged(ctx)
		}
	}
}

// head reads the checkpoint; false means that nothing can be compared with it.
func (a *auditor) head(d *logDir) (log.Checkpoint, bool) {
	raw, err := d.checkpoint()
	if err != nil {
		a.problem(-1, problemLog, "the log has no checkpoint that can be read")
		return log.Checkpoint{}, false
	}
	head, err := openCheckpoint(raw, a.verifier)
	if err != nil {
		a.problem(-1, problemLog, "the checkpoint was not signed with this installation's audit key: it was forged, or the log is another installation's")
		return log.Checkpoint{}, false
	}
	return head, true
}

// walk compares the entries up to head; broken means that what follows cannot be
// compared.
func (a *auditor) walk(ctx context.Context, head log.Checkpoint) (broken bool, err error) {
	if a.cosigned != nil && a.cosigned.size > head.Size {
		a.problem(a.next, problemWitness, fmt.Sprintf("witnesses cosigned %d entries, but the log has %d: its end was cut off, or an older one was put back", a.cosigned.size, head.Size))
		a.cosigned = nil
	}
	for i := a.tree.End(); i < head.Size; i++ {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		entry, hash, inTile, err := a.leaves.read(i, head.Size)
		if err != nil {
			a.problem(a.next, problemLog, fmt.Sprintf("entry %d of the log, which commits to the records from %d on, cannot be read: %v", i, a.next, err))
			return true, nil
		}
		if err := a.tree.Append(hash, nil); err != nil {
			return false, err
		}
		if !inTile {
			a.altered = append(a.altered, a.next)
		}
		c, err := decodeChunk(entry)
		if err != nil {
			a.problem(a.next, problemLog, fmt.Sprintf("entry %d of the log, which commits to the records from %d on, is malformed", i, a.next))
			return true, nil
		}
		if c.from != a.next {
			a.problem(a.next, problemLog, fmt.Sprintf("entry %d of the log commits to records from %d on instead of %d", i, c.from, a.next))
			return true, nil
		}
		if err := a.compare(ctx, c, int64(i)); err != nil {
			return false, err
		}
		a.next = c.to + 1
		if err := a.witness(); err != nil {
			return false, err
		}
	}
	root := rfc6962.DefaultHasher.EmptyRoot()
	if head.Size > 0 {
		if root, err = a.tree.GetRootHash(nil); err != nil {
			return false, err
		}
	}
	a.report.Size, a.report.Logged, a.report.Root = int64(head.Size), a.next, base64.StdEncoding.EncodeToString(head.Hash)
	if !bytes.Equal(root, head.Hash) {
		if len(a.altered) == 0 {
			a.problem(-1, problemLog, "the log's entries do not add up to the signed root: entries were replaced")
		}
		for _, seq := range a.altered {
			a.problem(seq, problemLog, fmt.Sprintf("the log's entry for the records from %d on was altered: it does not add up to the signed root", seq))
		}
		return true, nil
	}
	return false, nil
}

// witness compares the tree with the one that was cosigned, when that has been
// read.
func (a *auditor) witness() error {
	if a.cosigned == nil || a.tree.End() != a.cosigned.size {
		return nil
	}
	root, err := a.tree.GetRootHash(nil)
	if err != nil {
		return err
	}
	if bytes.Equal(root, a.cosigned.root) {
		a.witnessed = a.next
		return nil
	}
	a.problem(0, problemWitness, fmt.Sprintf("the log's first %d entries, which commit to the records 0 to %d, are not those that witnesses cosigned: history was rewritten by somebody who holds the log's key", a.cosigned.size, a.next-1))
	return nil
}

// compare checks the records of one entry.
func (a *auditor) compare(ctx context.Context, c chunk, index int64) error {
	for seq := c.from; seq <= c.to; seq++ {
		r, err := a.records.peek(ctx)
		if err != nil {
			return err
		}
		switch {
		case r == nil:
			if !a.isCut {
				a.isCut, a.cut = true, seq
			}
			continue
		case r.Seq > seq:
			a.problem(seq, problemDeleted, fmt.Sprintf("record %d is in the log but not in the database", seq))
			a.moved.lost(seq, c.at(seq))
			continue
		}
		a.records.pop()
		a.report.Records++
		a.last = r.LogIndex
		switch {
		case Commitment(*r) != c.at(seq):
			a.moved.differs(*r, c.at(seq))
		case r.LogIndex >= 0 && r.LogIndex != index:
			a.problem(seq, problemEdited, fmt.Sprintf("record %d is marked as entry %d of the log, but entry %d holds it", seq, r.LogIndex, index))
		}
	}
	return nil
}

// unlogged checks the records that the log does not cover yet.
func (a *auditor) unlogged(ctx context.Context) error {
	claimed := false
	for want := a.next; ; want++ {
		r, err := a.records.peek(ctx)
		if err != nil || r == nil {
			return err
		}
		if r.Seq != want {
			a.problem(want, problemDeleted, fmt.Sprintf("record %d is missing from the database; the log does not cover it yet", want))
			want = r.Seq
		}
		if r.LogIndex >= 0 && !claimed {
			claimed = true
			a.problem(r.Seq, problemLog, fmt.Sprintf("record %d is marked as entry %d of the log, but the signed log ends at entry %d: the log was cut", r.Seq, r.LogIndex, a.report.Size-1))
		}
		a.records.pop()
		a.report.Records++
	}
}

// conclude names what happened to the end of the trail and to the records that
// differ.
func (a *auditor) conclude() {
	for _, p := range a.moved.explain() {
		a.problem(p.Seq, p.Kind, p.Text)
	}
	if a.isCut {
		kind := problemTruncated
		if a.report.Records == 0 || a.last < 0 {
			kind = problemRolled // the last record kept was not marked yet when the copy was taken
		}
		a.problem(a.cut, kind, fmt.Sprintf("records %d to %d are in the log but not in the database: the end of the trail was cut off, or an older database was restored", a.cut, a.next-1))
	}
	if a.dropped > 0 {
		a.report.Problems = append(a.report.Problems, sallyport.AuditProblem{Seq: -1, Kind: problemLog, Text: fmt.Sprintf("and %d more", a.dropped)})
	}
}

func (a *auditor) problem(seq int64, kind, text string) {
	if len(a.report.Problems) >= maxProblems {
		a.dropped++
		return
	}
	a.report.Problems = append(a.report.Problems, sallyport.AuditProblem{Seq: seq, Kind: kind, Text: text})
}

// trail reads the records of a source in order.
type trail struct {
	source Source
	page   []sallyport.AuditRecord
	next   int64 // where to read on
	ended  bool
}

// peek returns the next record, nil at the end.
func (t *trail) peek(ctx context.Context) (*sallyport.AuditRecord, error) {
	if len(t.page) == 0 && !t.ended {
		page, err := t.source.Range(ctx, t.next, sourcePage)
		if err != nil {
			return nil, fmt.Errorf("read audit records: %w", err)
		}
		for i, r := range page {
			if r.Seq < t.next || i > 0 && r.Seq <= page[i-1].Seq {
				return nil, errors.New("read audit records: not in order")
			}
		}
		t.page, t.ended = page, len(page) == 0
		if len(page) > 0 {
			t.next = page[len(page)-1].Seq + 1
		}
	}
	if len(t.page) == 0 {
		return nil, nil
	}
	return &t.page[0], nil
}

func (t *trail) pop() { t.page = t.page[1:] }

// digest is a Commitment.
type digest = [sha256.Size]byte
