package tlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strconv"

	"github.com/sallyport-ci/sallyport"
)

const (
	// maxChunk is the number of records that one entry commits to: 700 hashes of
	// 67 bytes stay below the 65,535 bytes of an entry.
	maxChunk = 700
	// leafVersion is the version of the entry's format.
	leafVersion = 1
	// commitmentDomain separates these hashes from all others.
	commitmentDomain = "sallyport audit record v1\n"
)

// Commitment returns what the audit log keeps of a record: SHA-256 over
// commitmentDomain, the sequence number and the Unix time in microseconds (both as
// 64-bit big-endian), and actor, action, object, detail and salt, each with its
// length before it (64-bit big-endian). LogIndex is left out: it is known only
// afterwards. The salt keeps others from guessing what was committed to.
func Commitment(r sallyport.AuditRecord) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(commitmentDomain))
	var n [8]byte
	number := func(v uint64) {
		binary.BigEndian.PutUint64(n[:], v)
		h.Write(n[:])
	}
	number(uint64(r.Seq))
	number(uint64(r.At.UnixMicro()))
	for _, field := range [...][]byte{[]byte(r.Actor), []byte(r.Action), []byte(r.Object), r.Detail, r.Salt} {
		number(uint64(len(field)))
		h.Write(field)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// chunk is an entry of the audit log: commitments to the records from..to.
type chunk struct {
	from, to int64
	hashes   [][sha256.Size]byte
}

// newChunk commits to records, which are in order, without gaps, and at most
// maxChunk.
func newChunk(records []sallyport.AuditRecord) chunk {
	c := chunk{from: records[0].Seq, to: records[len(records)-1].Seq, hashes: make([][sha256.Size]byte, len(records))}
	for i, r := range records {
		c.hashes[i] = Commitment(r)
	}
	return c
}

// encode returns the entry's only valid form:
// {"v":1,"from":N,"to":M,"sha256":["HEX",…]} without white space.
func (c chunk) encode() []byte {
	b := make([]byte, 0, 64+len(c.hashes)*(2*sha256.Size+3))
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, leafVersion, 10)
	b = append(b, `,"from":`...)
	b = strconv.AppendInt(b, c.from, 10)
	b = append(b, `,"to":`...)
	b = strconv.AppendInt(b, c.to, 10)
	b = append(b, `,"sha256":[`...)
	for i, h := range c.hashes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = hex.AppendEncode(b, h[:])
		b = append(b, '"')
	}
	return append(b, "]}"...)
}

// decodeChunk reads an entry. It accepts nothing that encode would not write.
func decodeChunk(b []byte) (chunk, error) {
	malformed := sallyport.Errorf(sallyport.CodeInvalid, "not an entry of an audit log")
	var leaf struct {
		From   int64    `json:"from"`
		To     int64    `json:"to"`
		SHA256 []string `json:"sha256"`
	}
	if err := json.Unmarshal(b, &leaf); err != nil {
		return chunk{}, malformed
	}
	n := len(leaf.SHA256)
	if n < 1 || n > maxChunk || leaf.From < 0 || leaf.To < leaf.From || leaf.To-leaf.From != int64(n-1) {
		return chunk{}, malformed
	}
	c := chunk{from: leaf.From, to: leaf.To, hashes: make([][sha256.Size]byte, n)}
	for i, text := range leaf.SHA256 {
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) != sha256.Size {
			return chunk{}, malformed
		}
		c.hashes[i] = [sha256.Size]byte(raw)
	}
	if !bytes.Equal(c.encode(), b) {
		return chunk{}, malformed
	}
	return c, nil
}

// at returns the commitment to a record of the chunk.
func (c chunk) at(seq int64) [sha256.Size]byte { return c.hashes[seq-c.from] }
