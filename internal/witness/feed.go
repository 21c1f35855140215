package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// ErrFork says that a witness has vouched for a history that ours does not extend.
var ErrFork = errors.New("a witness has cosigned another history of this log, or a longer one")

// Prover returns the consistency proof between two sizes of the log.
type Prover func(ctx context.Context, from, to uint64) ([][]byte, error)

// Ask submits a checkpoint of the given size to one witness and returns its line
// of cosignature, verified. from is the size that the witness is believed to
// know; it is told when that is wrong, and asked once more. Errors: ErrFork when
// it will not vouch; others may be tried again.
func Ask(ctx context.Context, c *http.Client, p Peer, signed []byte, size, from uint64, prove Prover) ([]byte, error) {
	for range 2 {
		r := request{old: min(from, size), checkpoint: signed}
		if r.old > 0 && r.old < size {
			var err error
			if r.proof, err = prove(ctx, r.old, size); err != nil {
				return nil, fmt.Errorf("prove to witness %s: %w", p.Name, err)
			}
		}
		status, answer, err := post(ctx, c, p.URL+Path, r.encode())
		if err != nil {
			return nil, fmt.Errorf("ask witness %s: %w", p.Name, err)
		}
		switch status {
		case http.StatusOK:
			return cosignature(signed, answer, p.Key)
		case http.StatusConflict:
			known, ok := decimal(strings.TrimSuffix(string(answer), "\n"))
			if !ok || known == r.old || known > size {
				return nil, fmt.Errorf("witness %s: %w", p.Name, ErrFork)
			}
			from = known
		case http.StatusUnprocessableEntity:
			return nil, fmt.Errorf("witness %s: %w", p.Name, ErrFork)
		default:
			return nil, fmt.Errorf("witness %s answered %d: %.200q", p.Name, status, answer)
		}
	}
	return nil, fmt.Errorf("witness %s contradicts itself about what it has cosigned", p.Name)
}

func post(ctx context.Context, c *http.Client, url string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxRequest))
	return resp.StatusCode, answer, err
}

// cosignature returns the one line of an answer that is the witness's and
// verifies: an answer may hold lines of other keys.
func cosignature(signed, answer []byte, key note.Verifier) ([]byte, error) {
	text, _, ok := bytes.Cut(signed, []byte("\n\n"))
	if !ok {
		return nil, errMalformed
	}
	for line := range bytes.Lines(answer) {
		one := append(append(bytes.Clone(text), "\n\n"...), line...)
		if n, err := note.Open(one, note.VerifierList(key)); err == nil && len(n.Sigs) == 1 {
			return line, nil
		}
	}
	return nil, fmt.Errorf("the answer of witness %s holds no cosignature of its key", key.Name())
}
