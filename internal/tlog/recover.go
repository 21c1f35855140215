package tlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"

	"github.com/sallyport-ci/sallyport"
)

// recover finds out what the log holds, compares it with the database from the
// first record that is not marked as logged, and sets next, size and pending.
// It always compares the log's last entry. The whole trail is VerifyAudit's
// business.
func (s *Sequencer) recover(ctx context.Context) error {
	s.next, s.size, s.pending = 0, 0, nil
	size, err := s.reader.IntegratedSize(ctx)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	unmarked, err := s.firstUnmarked(ctx)
	if err != nil {
		return err
	}
	tail, err := s.tail(ctx, size, unmarked)
	if err != nil {
		return err
	}
	for i, c := range tail {
		index := int64(size) - int64(len(tail)) + int64(i)
		if i > 0 && c.from != tail[i-1].to+1 {
			return disagree("entry %d of the log does not continue entry %d", index, index-1)
		}
		if err := s.compare(ctx, c, index); err != nil {
			return err
		}
		s.next = c.to + 1
		if c.to >= unmarked {
			s.pending = append(s.pending, logMark{from: c.from, to: c.to, index: index})
		}
	}
	if unmarked > s.next {
		return disagree("record %d is marked as logged, but the log ends before it: the log was cut or replaced", unmarked-1)
	}
	s.size = int64(size)
	return nil
}

// firstUnmarked returns the sequence number of the first record that is not
// marked as logged, which may be one that does not exist yet. It counts before
// it looks: of records that are added in between, the look finds the first.
func (s *Sequencer) firstUnmarked(ctx context.Context) (int64, error) {
	n, _, err := s.source.Count(ctx)
	if err != nil {
		return 0, fmt.Errorf("count audit records: %w", err)
	}
	records, err := s.source.Unlogged(ctx, 1)
	if err != nil {
		return 0, fmt.Errorf("read audit records: %w", err)
	}
	if len(records) > 0 {
		return records[0].Seq, nil
	}
	return n, nil
}

// tail returns the log's last entries in order: back to the one that holds
// record seq or lies before it.
func (s *Sequencer) tail(ctx context.Context, size uint64, seq int64) ([]chunk, error) {
	var out []chunk
	var bundle [][]byte
	for i := size; i > 0; i-- {
		index := i - 1
		if at := index % layout.EntryBundleWidth; bundle == nil || at == layout.EntryBundleWidth-1 {
			var err error
			if bundle, err = s.bundle(ctx, index/layout.EntryBundleWidth, size); err != nil {
				return nil, err
			}
		}
		if int(index%layout.EntryBundleWidth) >= len(bundle) {
			return nil, disagree("entry %d of the log is missing", index)
		}
		c, err := decodeChunk(bundle[index%layout.EntryBundleWidth])
		if err != nil {
			return nil, disagree("entry %d of the log is malformed", index)
		}
		out = append(out, c)
		if c.from <= seq {
			break
		}
	}
	slices.Reverse(out)
	return out, nil
}

// bundle returns the n-th bundle of entries of a log of the given size.
func (s *Sequencer) bundle(ctx context.Context, n, size uint64) ([][]byte, error) {
	raw, err := s.reader.ReadEntryBundle(ctx, n, layout.PartialTileSize(0, n, size))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, disagree("the log lacks its entries from %d on", n*layout.EntryBundleWidth)
	}
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	var b api.EntryBundle
	if err := b.UnmarshalText(raw); err != nil {
		return nil, disagree("the log's entries from %d on are malformed", n*layout.EntryBundleWidth)
	}
	return b.Entries, nil
}

// compare checks the records of one entry against their commitments.
func (s *Sequencer) compare(ctx context.Context, c chunk, index int64) error {
	records, err := s.source.Range(ctx, c.from, len(c.hashes))
	if err != nil {
		return fmt.Errorf("read audit records: %w", err)
	}
	bySeq := map[int64]sallyport.AuditRecord{}
	for _, r := range records {
		bySeq[r.Seq] = r
	}
	for seq := c.from; seq <= c.to; seq++ {
		r, ok := bySeq[seq]
		switch {
		case !ok:
			return disagree("record %d is in entry %d of the log but not in the database: the database is older than the log, or the record was deleted", seq, index)
		case Commitment(r) != c.at(seq):
			return disagree("record %d is not as entry %d of the log has it: it was edited, or the database was rolled back", seq, index)
		}
	}
	return nil
}
