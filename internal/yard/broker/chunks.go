package broker

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// rechunker reads a body of signed chunks (S3's "aws-chunked" with
// STREAMING-AWS4-HMAC-SHA256-PAYLOAD) and signs each chunk anew. Lengths stay as
// they are: signatures are all of one length.
type rechunker struct {
	from     *lineReader
	sig      signer
	previous string
	trailer  bool
	out      bytes.Buffer
	err      error
}

// maxChunk bounds a chunk, which is held while it is hashed; clients send 64 KiB to 1 MiB.
const maxChunk = 16 << 20

func newRechunker(body io.Reader, sig signer, seed string, trailer bool) *rechunker {
	return &rechunker{from: newLineReader(body), sig: sig, previous: seed, trailer: trailer}
}

func (c *rechunker) Read(p []byte) (int, error) {
	for c.out.Len() == 0 && c.err == nil {
		c.err = c.next()
	}
	if c.out.Len() > 0 {
		return c.out.Read(p)
	}
	return 0, c.err
}

var errChunk = refuse("the body is not in the chunks that its header announces", "let the client send the body unsigned (UNSIGNED-PAYLOAD)")

// next signs one chunk; io.EOF after the last.
func (c *rechunker) next() error {
	line, _, err := c.from.line()
	if err != nil {
		return err
	}
	size, _, ok := strings.Cut(line, ";chunk-signature=")
	n, err := strconv.ParseUint(size, 16, 32)
	if !ok || err != nil || n > maxChunk {
		return errChunk
	}
	data := make([]byte, n)
	if err := c.from.full(data); err != nil {
		return err
	}
	c.previous = c.sig.chunk(c.previous, data)
	fmt.Fprintf(&c.out, "%s;chunk-signature=%s\r\n", size, c.previous)
	c.out.Write(data)
	if n > 0 || !c.trailer {
		if err := c.from.end(); err != nil {
			return err
		}
		c.out.WriteString("\r\n")
		if n > 0 {
			return nil
		}
		return io.EOF
	}
	return c.trailers()
}

const trailerSignature = "x-amz-trailer-signature:"

// trailers signs the checksums after the last chunk.
func (c *rechunker) trailers() error {
	var signed bytes.Buffer
	for range maxTrailers {
		line, end, err := c.from.line()
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, trailerSignature):
			fmt.Fprintf(&c.out, "%s%s\r\n\r\n", trailerSignature, c.sig.trailer(c.previous, signed.Bytes()))
			if err := c.from.end(); err != nil {
				return err
			}
			return io.EOF
		case line != "":
			signed.WriteString(line + "\n")
		}
		c.out.WriteString(line + end)
	}
	return errChunk
}

// lineReader reads the lines and pieces of a chunked body.
type lineReader struct{ r *bufio.Reader }

// maxLine bounds the line before a chunk: a length, a signature, a checksum.
const maxLine = 4 << 10

func newLineReader(r io.Reader) *lineReader { return &lineReader{bufio.NewReaderSize(r, maxLine)} }

// line returns a line and the end that it had.
func (l *lineReader) line() (line, end string, err error) {
	b, err := l.r.ReadSlice('\n')
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return "", "", err
	}
	line = strings.TrimRight(string(b), "\r\n")
	return line, string(b[len(line):]), nil
}

func (l *lineReader) full(p []byte) error {
	_, err := io.ReadFull(l.r, p)
	if err == io.EOF && len(p) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// end reads the CRLF after a piece.
func (l *lineReader) end() error {
	line, _, err := l.line()
	if err == nil && line != "" {
		return errChunk
	}
	return err
}
