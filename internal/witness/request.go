package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
)

const (
	// maxRequest bounds an add-checkpoint request: 63 hashes and a checkpoint with
	// a good hundred signatures.
	maxRequest = 64 << 10
	// maxProof is what a tree of 2^63 entries needs (C2SP tlog-witness).
	maxProof = 63
	hashSize = 32
)

// request is the body of an add-checkpoint call.
type request struct {
	old        uint64 // size of the tree that the proof starts from
	proof      [][]byte
	checkpoint []byte // signed note
}

func (r request) encode() []byte {
	b := fmt.Appendf(nil, "old %d\n", r.old)
	for _, h := range r.proof {
		b = append(base64.StdEncoding.AppendEncode(b, h), '\n')
	}
	b = append(b, '\n')
	return append(b, r.checkpoint...)
}

// parseRequest accepts nothing that encode would not write. Errors are errMalformed.
func parseRequest(b []byte) (request, error) {
	if len(b) > maxRequest {
		return request{}, errMalformed
	}
	head, checkpoint, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok || len(checkpoint) == 0 {
		return request{}, errMalformed
	}
	lines := bytes.Split(head, []byte("\n"))
	size, ok := bytes.CutPrefix(lines[0], []byte("old "))
	if !ok || len(lines)-1 > maxProof {
		return request{}, errMalformed
	}
	r := request{checkpoint: checkpoint}
	if r.old, ok = decimal(string(size)); !ok {
		return request{}, errMalformed
	}
	for _, line := range lines[1:] {
		h, err := base64.StdEncoding.Strict().DecodeString(string(line))
		if err != nil || len(h) != hashSize {
			return request{}, errMalformed
		}
		r.proof = append(r.proof, h)
	}
	return r, nil
}

// decimal reads a size in its only valid form, which also fits an int64.
func decimal(s string) (uint64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return uint64(n), err == nil && n >= 0 && strconv.FormatInt(n, 10) == s
}

// checkpoint is a checkpoint whose log signed it.
type checkpoint struct {
	log.Checkpoint
	text string           // what was signed
	sigs []note.Signature // those of the verifiers it was opened with
}

// origin returns the first line of a checkpoint that nobody vouches for yet.
func origin(raw []byte) string {
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	return string(line)
}

// openCheckpoint verifies the log's signature and those of others that are there.
func openCheckpoint(raw []byte, v note.Verifier, others ...note.Verifier) (checkpoint, error) {
	n, err := note.Open(raw, note.VerifierList(append([]note.Verifier{v}, others...)...))
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified), errors.As(err, &invalid):
		return checkpoint{}, errUnsigned
	case err != nil:
		return checkpoint{}, errMalformed
	}
	signed := false
	for _, s := range n.Sigs {
		signed = signed || s.Name == v.Name() && s.Hash == v.KeyHash()
	}
	if !signed {
		return checkpoint{}, errUnsigned
	}
	c := checkpoint{text: n.Text, sigs: n.Sigs}
	if _, err := c.Unmarshal([]byte(n.Text)); err != nil || c.Origin != v.Name() || len(c.Hash) != hashSize || c.Size > 1<<63-1 ||
		!bytes.HasPrefix([]byte(n.Text), c.Marshal()) {
		return checkpoint{}, errMalformed
	}
	return c, nil
}
