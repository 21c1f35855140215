package blobstore

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/sallyport-ci/sallyport"
)

// A log is a file:
//
//	magic, uint16 length of the sealed key, sealed key (bound to the job)
//	frames: uint32 length of the plaintext, nonce, ciphertext, tag
//
// A frame is AES-256-GCM under a random nonce and bound to the job, its offset in
// the plaintext and its length: it cannot be moved, repeated or left out.
const (
	logMagic = "SPLOG001"
	headMin  = len(logMagic) + 2
	frameLen = 4
	// frameMore is what a frame is longer than its plaintext.
	frameMore = frameLen + 12 + 16
	// maxFrame bounds the plaintext of a frame, and so what one read has to decrypt in vain.
	maxFrame = 256 << 10
	// indexEvery is how many bytes of plaintext lie between two places that are
	// remembered: a log of 1 GiB costs 256 KiB of memory, a read at most this much more to skip.
	indexEvery = 64 << 10
	// syncEvery bounds what a power cut takes of a log that is still written,
	// and with it what counts as a torn end rather than as damage.
	syncEvery = 1 << 20
	maxTorn   = syncEvery + maxFrame + frameMore
)

// logFile is one open log. Appends exclude all else; reads go side by side.
type logFile struct {
	f     *os.File
	disk  durability
	job   sallyport.JobID
	aead  cipher.AEAD
	end   int64  // of the plaintext
	tail  int64  // of the file's good part
	index []mark // ascending; the first is the first frame

	syncing sync.Mutex
	dirty   atomic.Int64 // bytes that may not be on disk
	spoilt  atomic.Bool
}

// mark is where a frame begins.
type mark struct{ offset, at int64 }

func encodeHead(sealed []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte(logMagic), uint16(len(sealed)))
	return append(b, sealed...)
}

func decodeHead(f io.ReaderAt) (sealed []byte, length int64, err error) {
	var head [headMin]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return nil, 0, tampered(fmt.Errorf("head: %w", err))
	}
	n := int(binary.BigEndian.Uint16(head[len(logMagic):]))
	if string(head[:len(logMagic)]) != logMagic || n == 0 || n > maxSealedKey {
		return nil, 0, tampered(errShape)
	}
	sealed = make([]byte, n)
	if _, err := f.ReadAt(sealed, int64(headMin)); err != nil {
		return nil, 0, tampered(fmt.Errorf("head: %w", err))
	}
	return sealed, int64(headMin + n), nil
}

func newLogFile(f *os.File, disk durability, j sallyport.JobID, key []byte, start int64) (*logFile, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	return &logFile{f: f, disk: disk, job: j, aead: aead, tail: start, index: []mark{{0, start}}}, nil
}

func (l *logFile) aad(offset int64, length int) []byte {
	return bind(logLabel, string(l.job), strconv.FormatInt(offset, 10), strconv.Itoa(length))
}

// advance takes a frame of n bytes of plaintext into account.
func (l *logFile) advance(n int) {
	if last := l.index[len(l.index)-1]; l.end-last.offset >= indexEvery {
		l.index = append(l.index, mark{l.end, l.tail})
	}
	l.end += int64(n)
	l.tail += int64(n + frameMore)
}

// append writes data. When it fails, the end tells how much of it is there.
func (l *logFile) append(data []byte) error {
	for len(data) > 0 {
		if l.broken() {
			return errBroken
		}
		plain := data[:min(len(data), maxFrame)]
		data = data[len(plain):]
		out := make([]byte, frameLen, len(plain)+frameMore)
		binary.BigEndian.PutUint32(out, uint32(len(plain)))
		out = l.aead.Seal(out, nil, plain, l.aad(l.end, len(plain)))
		if _, err := l.f.WriteAt(out, l.tail); err != nil {
			if undo := l.f.Truncate(l.tail); undo != nil {
				l.spoilt.Store(true)
			}
			return diskError("append to a log", err)
		}
		l.advance(len(plain))
		if l.dirty.Add(int64(len(out))) >= syncEvery {
			if err := l.sync(); err != nil {
				return err
			}
		}
	}
	return nil
}

// sync makes the log durable as it is now.
func (l *logFile) sync() error {
	l.syncing.Lock() // who waited may find nothing left to do
	defer l.syncing.Unlock()
	n := l.dirty.Load()
	if n == 0 {
		return nil
	}
	if err := l.disk.file(l.f); err != nil {
		l.spoilt.Store(true)
		return diskError("write a log", err)
	}
	l.dirty.Add(-n)
	return nil
}

// broken says that the file may not be as we believe, after a write that
// failed: it has to be opened again.
func (l *logFile) broken() bool { return l.spoilt.Load() }

var errBroken = &sallyport.Error{Code: sallyport.CodeUnavailable, Message: "the log could not be written", Hint: "try again; look at the disk"}

func (l *logFile) close() error { return errors.Join(l.sync(), l.f.Close()) }

var errFrame = errors.New("a frame has no possible length")

// frameAt reads and opens the frame at a place; io.ErrUnexpectedEOF when the file ends in it.
func (l *logFile) frameAt(m mark, size int64) ([]byte, error) {
	n, err := l.lengthAt(m.at, size)
	if err != nil {
		return nil, err
	}
	sealed := make([]byte, n+frameMore-frameLen)
	if err := l.readAt(sealed, m.at+frameLen); err != nil {
		return nil, err
	}
	plain, err := l.aead.Open(sealed[:0], nil, sealed, l.aad(m.offset, n))
	if err != nil {
		return nil, tampered(err)
	}
	return plain, nil
}

func (l *logFile) lengthAt(at, size int64) (int, error) {
	if size-at < frameLen {
		return 0, io.ErrUnexpectedEOF
	}
	var b [frameLen]byte
	if err := l.readAt(b[:], at); err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(b[:])
	if n == 0 || n > maxFrame {
		return 0, tampered(errFrame)
	}
	if at+int64(n)+frameMore > size {
		return 0, io.ErrUnexpectedEOF
	}
	return int(n), nil
}

func (l *logFile) readAt(p []byte, at int64) error {
	_, err := l.f.ReadAt(p, at)
	switch {
	case err == io.EOF: // somebody has cut the file
		return io.ErrUnexpectedEOF
	case err != nil:
		return diskError("read a log", err)
	}
	return nil
}

// read returns bytes from offset on; what it returns was verified.
func (l *logFile) read(offset int64, max int) ([]byte, error) {
	if offset >= l.end || max <= 0 {
		return nil, nil
	}
	out := make([]byte, 0, min(int64(max), l.end-offset))
	i := sort.Search(len(l.index), func(i int) bool { return l.index[i].offset > offset }) - 1
	for m := l.index[i]; m.offset < l.end && len(out) < max; {
		n, err := l.lengthAt(m.at, l.tail)
		if err != nil {
			return nil, damaged(err)
		}
		if m.offset+int64(n) > offset {
			plain, err := l.frameAt(m, l.tail)
			if err != nil {
				return nil, damaged(err)
			}
			skip := offset - m.offset
			plain = plain[skip:]
			plain = plain[:min(len(plain), max-len(out))]
			out = append(out, plain...)
			offset += int64(len(plain))
		}
		m = mark{m.offset + int64(n), m.at + int64(n) + frameMore}
	}
	return out, nil
}

func damaged(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return tampered(err)
	}
	return err
}

// recover finds the end of a log that was opened. What follows the last good frame
// is cut when it can be what a crash has torn; more than that is damage,
// and nothing is cut.
func (l *logFile) recover() error {
	info, err := l.f.Stat()
	if err != nil {
		return diskError("open a log", err)
	}
	size := info.Size()
	for l.tail < size {
		m := mark{l.end, l.tail}
		// Every frame that a crash can have torn is opened; those before were on disk.
		var n int
		if size-l.tail > maxTorn {
			n, err = l.lengthAt(m.at, size)
		} else {
			var plain []byte
			plain, err = l.frameAt(m, size)
			n = len(plain)
		}
		if err != nil {
			break
		}
		l.advance(n)
	}
	switch torn := size - l.tail; {
	case torn == 0:
		return nil
	case sallyport.ErrorCode(err) == sallyport.CodeUnavailable:
		return err // the disk, not the log
	case torn > maxTorn:
		return damaged(err)
	}
	if err := l.f.Truncate(l.tail); err != nil {
		return diskError("open a log", err)
	}
	if err := l.disk.file(l.f); err != nil {
		return diskError("open a log", err)
	}
	return nil
}
