package tlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	"github.com/sallyport-ci/sallyport"
)

const (
	// Entries are gathered for 5 ms: one chain of fsyncs then serves many signers,
	// and a lone signer hardly notices.
	signatureBatch    = 256
	signatureBatchAge = 5 * time.Millisecond
	// The published head is for readers of the log directory; bundles do not wait for it.
	signaturePublish = 100 * time.Millisecond
)

// Signatures is the log of signatures. It is safe for use by several
// goroutines.
//
// An entry is proven against a checkpoint that Signatures signs itself as soon
// as the entry is durable, instead of waiting for the next published one. That
// is safe because only sizes that survive a power cut are signed, and each
// signed head is first proven consistent with the one before.
type Signatures struct {
	*tree
	resolved chan resolution
	done     chan struct{} // closed when the prover has ended

	mu       sync.Mutex
	closed   bool
	inflight sync.WaitGroup // Appends whose entry has no index yet

	last log.Checkpoint // newest head we signed or found published; the prover's
	raw  []byte         // last, signed; nil until the prover signed it
}

// resolution is an entry that got its index, or did not.
type resolution struct {
	index uint64
	err   error
	leaf  []byte // Merkle leaf hash
	reply chan<- proven
}

// proven is the answer to one Append.
type proven struct {
	index      uint64
	hashes     [][]byte
	checkpoint []byte
	err        error
}

// OpenSignatures opens or makes the log of signatures. It refuses a log whose
// checkpoint another key signed. Close it to release it.
func OpenSignatures(ctx context.Context, cfg Config) (*Signatures, error) {
	t, err := openTree(ctx, cfg, signatureBatch, signatureBatchAge, signaturePublish)
	if err != nil {
		return nil, err
	}
	last, err := t.published(ctx)
	if err != nil {
		return nil, errors.Join(err, t.close(ctx))
	}
	size, err := t.reader.IntegratedSize(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log: %w", err), t.close(ctx))
	}
	s := &Signatures{tree: t, resolved: make(chan resolution, signatureBatch), done: make(chan struct{}), last: last}
	go s.prove(context.WithoutCancel(ctx), size)
	return s, nil
}

// Append adds an entry (at most 65,535 bytes) and returns when it is durable,
// with its index, its inclusion proof and the signed checkpoint to which the
// proof leads. An entry whose Append failed or was given up may be in the log
// nevertheless. Errors: CodeUnavailable when the log cannot be written, is
// closed, or ctx ended; CodeConflict when the log on disk was tampered with.
func (s *Signatures) Append(ctx context.Context, entry []byte) (index int64, hashes [][]byte, checkpoint []byte, err error) {
	reply := make(chan proven, 1)
	if err := s.submit(ctx, entry, reply); err != nil {
		return 0, nil, nil, err
	}
	select {
	case p := <-reply:
		return int64(p.index), p.hashes, p.checkpoint, p.err
	case <-ctx.Done():
		return 0, nil, nil, unavailable(context.Cause(ctx))
	}
}

func (s *Signatures) submit(ctx context.Context, entry []byte, reply chan<- proven) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return unavailable(errors.New("log is closed"))
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(entry)
	future := s.appender.Add(ctx, tessera.NewEntry(entry))
	// The goroutine ends when the log has written the batch, which close waits for.
	s.inflight.Go(func() {
		i, err := future()
		s.resolved <- resolution{index: i.Index, err: err, leaf: leaf, reply: reply}
	})
	return nil
}

// Close waits until every Append was answered, publishes the log's head and
// releases the log.
func (s *Signatures) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.inflight.Wait()
	close(s.resolved)
	<-s.done
	return s.close(ctx)
}

// Checkpoint returns the newest published checkpoint, signed.
func (s *Signatures) Checkpoint(ctx context.Context) ([]byte, error) {
	raw, err := s.reader.ReadCheckpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	return raw, nil
}

// prove answers Appends until resolved is closed. durable is the size that is
// known to survive a power cut.
func (s *Signatures) prove(ctx context.Context, durable uint64) {
	defer close(s.done)
	var waiting []resolution
	for r := range s.resolved {
		for more := true; more; {
			if r.err != nil {
				r.reply <- proven{err: unavailable(r.err)}
			} else {
				waiting = append(waiting, r)
				durable = max(durable, r.index+1)
			}
			select {
			case next, ok := <-s.resolved:
				r, more = next, ok
			default:
				more = false
			}
		}
		waiting = s.answer(ctx, waiting, durable)
	}
	for _, r := range waiting { // the log ended between writing a batch and confirming it
		r.reply <- proven{err: unavailable(errors.New("log is closed"))}
	}
}

// answer proves the waiting entries and returns those that must wait for the
// batch behind them: the tree on disk may already hold a batch that is not yet
// confirmed durable, and its size must not be signed.
func (s *Signatures) answer(ctx context.Context, waiting []resolution, durable uint64) []resolution {
	if len(waiting) == 0 {
		return waiting
	}
	size, err := s.reader.IntegratedSize(ctx)
	if err == nil && size > durable {
		return waiting
	}
	var builder *client.ProofBuilder
	if err == nil {
		builder, err = client.NewProofBuilder(ctx, size, s.reader.ReadTile)
	}
	if err == nil {
		err = s.sign(ctx, builder, size)
	}
	for _, r := range waiting {
		r.reply <- s.include(ctx, builder, r, err)
	}
	return waiting[:0]
}

func (s *Signatures) include(ctx context.Context, builder *client.ProofBuilder, r resolution, err error) proven {
	if err != nil {
		return proven{err: err}
	}
	hashes, err := builder.InclusionProof(ctx, r.index)
	if err != nil {
		return proven{err: fmt.Errorf("prove entry %d: %w", r.index, err)}
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, r.index, s.last.Size, r.leaf, hashes, s.last.Hash); err != nil {
		return proven{err: s.tampered(ctx, err)}
	}
	return proven{index: r.index, hashes: hashes, checkpoint: s.raw}
}

// sign makes s.last and s.raw the head of the given size. It signs only what
// extends the head it signed before.
func (s *Signatures) sign(ctx context.Context, builder *client.ProofBuilder, size uint64) error {
	if s.raw != nil && s.last.Size == size {
		return nil
	}
	nodes, err := client.FetchRangeNodes(ctx, size, s.reader.ReadTile)
	if err != nil {
		return fmt.Errorf("read tiles: %w", err)
	}
	r, err := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewRange(0, size, nodes)
	if err != nil {
		return fmt.Errorf("compute root: %w", err)
	}
	root, err := r.GetRootHash(nil)
	if err != nil {
		return fmt.Errorf("compute root: %w", err)
	}
	if err := s.extends(ctx, builder, size, root); err != nil {
		return s.tampered(ctx, err)
	}
	cp := log.Checkpoint{Origin: s.signer.Name(), Size: size, Hash: root}
	raw, err := note.Sign(&note.Note{Text: string(cp.Marshal())}, s.signer)
	if err != nil {
		return fmt.Errorf("sign checkpoint: %w", err)
	}
	s.last, s.raw = cp, raw
	return nil
}

func (s *Signatures) extends(ctx context.Context, builder *client.ProofBuilder, size uint64, root []byte) error {
	switch {
	case size < s.last.Size:
		return fmt.Errorf("log shrank from %d to %d entries", s.last.Size, size)
	case s.last.Size == 0:
		return nil
	case size == s.last.Size:
		if !bytes.Equal(root, s.last.Hash) {
			return errors.New("another tree of the same size")
		}
		return nil
	}
	hashes, err := builder.ConsistencyProof(ctx, s.last.Size, size)
	if err != nil {
		return err
	}
	return proof.VerifyConsistency(rfc6962.DefaultHasher, s.last.Size, size, hashes, s.last.Hash, root)
}

func (s *Signatures) tampered(ctx context.Context, err error) error {
	s.log.ErrorContext(ctx, "refused to sign the head of a log that does not extend its last head", "error", err)
	return &sallyport.Error{Code: sallyport.CodeConflict, Message: "the signature log on disk was changed from outside; nothing more is signed", Hint: "restore the log directory from its backup", Err: err}
}
