package toolkit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	sallyport "github.com/sallyport-ci/sallyport"
)

const (
	// maxUploads bounds the uploads of a job that are not finished.
	maxUploads = 64
	// maxUploadBytes bounds what all of them hold, blocks that were replaced or cut
	// off included. The control plane takes no more of one job.
	maxUploadBytes = 8 << 30
	// maxBlocks is Azure's bound of a blob.
	maxBlocks = 50_000
)

// uploads are the contents that the job is sending, each in a file of its own.
type uploads struct {
	dir string

	mu     sync.Mutex
	open   map[string]*upload
	bytes  int64
	closed bool
}

func newUploads(dir string) *uploads { return &uploads{dir: dir, open: map[string]*upload{}} }

// upload is a content that arrives in pieces, in any order. Pieces are written one
// after the other as they come; commit says which of them, in which order, are the content.
// It is safe for use by several goroutines.
type upload struct {
	id, sig string // of its URL
	all     *uploads
	file    *os.File

	mu      sync.Mutex
	end     int64 // of the file, pieces that are being written included
	blocks  map[string]segment
	content []segment
	set     bool // content was committed
}

// segment is a piece of an upload's file.
type segment struct{ at, size int64 }

// begin makes an upload.
func (u *uploads) begin() (*upload, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "the job ends")
	}
	if len(u.open) >= maxUploads {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the job has %d unfinished uploads", maxUploads).WithHint("finish some before the next begins")
	}
	n := &upload{id: random()[:32], sig: random(), all: u, blocks: map[string]segment{}}
	var err error
	if n.file, err = os.OpenFile(filepath.Join(u.dir, n.id), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("begin an upload: %w", err)
	}
	u.open[n.id] = n
	return n, nil
}

// find returns an upload by what its URL has.
func (u *uploads) find(id, sig string) (*upload, error) {
	u.mu.Lock()
	n := u.open[id]
	u.mu.Unlock()
	if n == nil || !equal(sig, n.sig) {
		return nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no such upload, or it is finished")
	}
	return n, nil
}

// close drops every upload.
func (u *uploads) close() error {
	u.mu.Lock()
	u.closed = true
	open := u.open
	u.open = map[string]*upload{}
	u.mu.Unlock()
	var errs []error
	for _, n := range open {
		errs = append(errs, n.file.Close(), os.Remove(n.file.Name()))
	}
	return errors.Join(errs...)
}

// url is where the toolkits send the content. It looks like one of Azure's
// emulator: account, container, blob.
func (n *upload) url() string { return base + "/blobs/uploads/" + n.id + "?sig=" + n.sig }

// reserve finds room for a piece.
func (n *upload) reserve(size int64) (segment, error) {
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	if n.all.open[n.id] != n {
		return segment{}, sallyport.Errorf(sallyport.CodeNotFound, "the upload is finished")
	}
	if size < 0 || size > maxUploadBytes-n.all.bytes {
		return segment{}, sallyport.Errorf(sallyport.CodeInvalid, "the unfinished uploads of the job have more than %d MiB", maxUploadBytes>>20)
	}
	n.all.bytes += size
	n.mu.Lock()
	defer n.mu.Unlock()
	s := segment{n.end, size}
	n.end += size
	return s, nil
}

// write takes a piece of exactly size bytes.
func (n *upload) write(r io.Reader, size int64) (segment, error) {
	s, err := n.reserve(size)
	if err != nil {
		return segment{}, err
	}
	got, err := io.Copy(io.NewOffsetWriter(n.file, s.at), io.LimitReader(r, size))
	switch {
	case errors.Is(err, os.ErrClosed):
		return segment{}, sallyport.Errorf(sallyport.CodeNotFound, "the upload is finished")
	case err == nil && got < size, errors.Is(err, io.ErrUnexpectedEOF):
		return segment{}, sallyport.Errorf(sallyport.CodeInvalid, "the content was cut off after %d of %d bytes", got, size)
	case err != nil:
		return segment{}, fmt.Errorf("keep a piece of an upload: %w", err)
	}
	return s, nil
}

// stage keeps a piece under a name, for commitBlocks; a later one replaces it.
func (n *upload) stage(name string, s segment) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.blocks[name]; !known && len(n.blocks) >= maxBlocks {
		return sallyport.Errorf(sallyport.CodeInvalid, "the upload has more than %d blocks", maxBlocks)
	}
	n.blocks[name] = s
	return nil
}

// commitBlocks makes the named pieces the content, in this order, and forgets the others.
func (n *upload) commitBlocks(names []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var content []segment
	kept := make(map[string]segment, len(names))
	for _, name := range names {
		s, ok := n.blocks[name]
		if !ok {
			return sallyport.Errorf(sallyport.CodeInvalid, "the list names the block %.100q, which was not sent", name)
		}
		kept[name] = s
		content = append(content, s)
	}
	n.blocks, n.content, n.set = kept, content, true
	return nil
}

// commit makes the pieces the content.
func (n *upload) commit(pieces ...segment) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.content, n.set = slices.Clone(pieces), true
}

// read returns the committed content. It is good until finish.
func (n *upload) read() (*io.SectionReader, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.set {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the upload has no content yet").WithHint("send it to its signed URL first")
	}
	p := pieces{file: n.file}
	for _, s := range n.content {
		if s.size == 0 {
			continue
		}
		p.segments, p.starts = append(p.segments, s), append(p.starts, p.size)
		if p.size += s.size; p.size > maxUploadBytes { // a list may name a block many times
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the upload has more than %d MiB", maxUploadBytes>>20)
		}
	}
	return io.NewSectionReader(p, 0, p.size), nil
}

// finish lets go of the upload and its content.
func (n *upload) finish() {
	n.all.mu.Lock()
	defer n.all.mu.Unlock()
	if n.all.open[n.id] != n {
		return
	}
	delete(n.all.open, n.id)
	n.all.bytes -= n.end // under the lock of reserve
	_ = n.file.Close()   // what is still being written fails
	_ = os.Remove(n.file.Name())
}

// pieces reads segments of a file as one content.
type pieces struct {
	file     *os.File
	segments []segment
	starts   []int64 // of the segments in the content
	size     int64
}

// ReadAt implements io.ReaderAt.
func (p pieces) ReadAt(b []byte, at int64) (read int, err error) {
	i, exact := slices.BinarySearch(p.starts, at)
	if !exact {
		i--
	}
	for ; read < len(b) && i >= 0 && i < len(p.segments); i++ {
		skip := at + int64(read) - p.starts[i]
		if skip >= p.segments[i].size {
			break
		}
		part := b[read:min(int64(len(b)), int64(read)+p.segments[i].size-skip)]
		n, err := p.file.ReadAt(part, p.segments[i].at+skip)
		if read += n; n < len(part) {
			return read, fmt.Errorf("read an upload: %w", err)
		}
	}
	if read < len(b) {
		return read, io.EOF
	}
	return read, nil
}
