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
	// maxGroup is the number of entries that are written together: a whole bundle.
	maxGroup = 256
	// A group is handed over at once, so the log need not wait for more of it.
	groupAge = time.Millisecond
	// The published head is for readers of the log directory; bundles do not wait for it.
	signaturePublish = 100 * time.Millisecond
)

// Signatures is the log of signatures. It is safe for use by several
// goroutines.
//
// Entries are committed in groups: while one group is written, the next one
// gathers, so that the cost of a write is shared by all who wait and a lone
// signer waits for nobody. A group is proven against a checkpoint that
// Signatures signs itself once the group is durable, instead of waiting for the
// next published one. That is safe because no later write is under way then, and
// because each head is first proven consistent with the one signed before.
type Signatures struct {
	*tree
	requests chan request
	done     chan struct{} // closed when the writer has ended

	mu     sync.RWMutex // held for reading while a request is handed over
	closed bool

	last log.Checkpoint // newest head we signed or found published; the writer's
	raw  []byte         // last, signed; nil until the writer signed it
}

// request is one Append.
type request struct {
	entry *tessera.Entry
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
	t, err := openTree(ctx, cfg, maxGroup, groupAge, signaturePublish)
	if err != nil {
		return nil, err
	}
	last, err := t.published(ctx)
	if err != nil {
		return nil, errors.Join(err, t.close(ctx))
	}
	s := &Signatures{tree: t, requests: make(chan request, maxGroup), done: make(chan struct{}), last: last}
	go s.write(context.WithoutCancel(ctx))
	return s, nil
}

// Append adds an entry (at most 65,535 bytes) and returns when it is durable,
// with its index, its inclusion proof and the signed checkpoint to which the
// proof leads. An entry whose Append failed or was given up may be in the log
// nevertheless. Errors: CodeUnavailable when the log cannot be written, is
// closed, or ctx ended; CodeConflict when the log on disk was tampered with.
func (s *Signatures) Append(ctx context.Context, entry []byte) (index int64, hashes [][]byte, checkpoint []byte, err error) {
	reply := make(chan proven, 1)
	if err := s.submit(ctx, request{entry: tessera.NewEntry(entry), leaf: rfc6962.DefaultHasher.HashLeaf(entry), reply: reply}); err != nil {
		return 0, nil, nil, err
	}
	select {
	case p := <-reply:
		return int64(p.index), p.hashes, p.checkpoint, p.err
	case <-ctx.Done():
		return 0, nil, nil, unavailable(context.Cause(ctx))
	}
}

func (s *Signatures) submit(ctx context.Context, r request) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return unavailable(errors.New("log is closed"))
	}
	select {
	case s.requests <- r:
		return nil
	case <-ctx.Done():
		return unavailable(context.Cause(ctx))
	}
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
	close(s.requests)
	s.mu.Unlock()
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

// write commits groups until requests is closed.
func (s *Signatures) write(ctx context.Context) {
	defer close(s.done)
	group := make([]request, 0, maxGroup)
	for r := range s.requests {
		group = append(group[:0], r)
		for more := true; more && len(group) < maxGroup; {
			select {
			case next, ok := <-s.requests:
				if more = ok; ok {
					group = append(group, next)
				}
			default:
				more = false
			}
		}
		s.commit(ctx, group)
	}
}

// commit writes one group and answers it.
func (s *Signatures) commit(ctx context.Context, group []request) {
	futures := make([]tessera.IndexFuture, len(group))
	for i, r := range group {
		futures[i] = s.appender.Add(ctx, r.entry)
	}
	answers := make([]proven, len(group))
	for i, future := range futures {
		index, err := future()
		if answers[i].index = index.Index; err != nil {
			answers[i].err = unavailable(err)
		}
	}
	builder, err := s.advance(ctx)
	for i, r := range group {
		a := &answers[i]
		if a.err == nil && err != nil {
			a.err = err
		}
		if a.err == nil {
			a.hashes, a.err = s.include(ctx, builder, a.index, r.leaf)
			a.checkpoint = s.raw
		}
		r.reply <- *a
	}
}

// advance signs the log's present head and returns a builder of proofs for it.
func (s *Signatures) advance(ctx context.Context) (*client.ProofBuilder, error) {
	size, err := s.reader.IntegratedSize(ctx)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	builder, err := client.NewProofBuilder(ctx, size, s.reader.ReadTile)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	return builder, s.sign(ctx, builder, size)
}

// include proves an entry against the head that advance signed.
func (s *Signatures) include(ctx context.Context, builder *client.ProofBuilder, index uint64, leaf []byte) ([][]byte, error) {
	hashes, err := builder.InclusionProof(ctx, index)
	if err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", index, err)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, s.last.Size, leaf, hashes, s.last.Hash); err != nil {
		return nil, s.tampered(ctx, err)
	}
	return hashes, nil
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
