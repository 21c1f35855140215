package tlog

import (
	"context"
	"fmt"

	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"

	"github.com/sallyport-ci/sallyport/internal/witness"
)

// Prover returns consistency proofs from the tiles of the log in dir.
func Prover(dir string) witness.Prover {
	return func(ctx context.Context, from, to uint64) ([][]byte, error) {
		d, err := openLogDir(dir)
		if err != nil {
			return nil, err
		}
		defer d.close()
		tile := func(_ context.Context, level, index uint64, partial uint8) ([]byte, error) {
			return d.readWidest(func(p uint8) string { return layout.TilePath(level, index, p) }, partial, maxTileFile)
		}
		b, err := client.NewProofBuilder(ctx, to, tile)
		if err != nil {
			return nil, err
		}
		p, err := b.ConsistencyProof(ctx, from, to)
		if err != nil {
			return nil, fmt.Errorf("prove that %d entries extend %d: %w", to, from, err)
		}
		return p, nil
	}
}

// Checkpoint returns the newest checkpoint of the log in dir and its size, which
// nobody verified.
func Checkpoint(dir string) (raw []byte, size uint64, err error) {
	d, err := openLogDir(dir)
	if err != nil {
		return nil, 0, err
	}
	defer d.close()
	if raw, err = d.checkpoint(); err != nil {
		return nil, 0, err
	}
	size, err = claimedSize(raw)
	return raw, size, err
}
