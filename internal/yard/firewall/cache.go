package firewall

import (
	"bufio"
	"bytes"
	"container/list"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // npm's oldest packages have no other checksum
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport"
)

const (
	// defaultCacheBytes bounds the cache when nobody says otherwise.
	defaultCacheBytes = 10 << 30
	// maxCached bounds the number of answers that are kept: each is a small file, or two.
	maxCached = 200_000
	// maxHeld is the size up to which content is read whole before it is handed out. Larger content is
	// read twice: once to be verified, once to be sent.
	maxHeld = 8 << 20
	// maxWithin is the size up to which content lies in its note's file: most answers are small, and making
	// a file costs more than filling it.
	maxWithin = 256 << 10
	// maxNote bounds the first two lines of a note's file.
	maxNote = 64 << 10
	// touchEvery is how precisely the cache remembers, over a restart, when something was last used.
	touchEvery = time.Hour
)

// errCorrupt says that what lies in the cache is not what was put there.
var errCorrupt = errors.New("the cached content has changed")

// note is what the cache keeps about an answer of an upstream.
type note struct {
	Key    string           `json:"key"`
	Digest sallyport.Digest `json:"digest"`
	Size   int64            `json:"size"`
	Within bool             `json:"within,omitempty"` // the content follows in the note's file
	Status int              `json:"status,omitempty"` // 0: 200
	Type   string           `json:"type,omitempty"`
	ETag   string           `json:"etag,omitempty"`
	// Modified is the upstream's Last-Modified.
	Modified time.Time `json:"modified,omitzero"`
	Fetched  time.Time `json:"fetched"`
	// Sums are the checksums that the protocols compare, by algorithm, in their own spelling.
	Sums map[string]string `json:"sums,omitempty"`
}

// cache keeps answers by key and their content by digest. What is read from it is
// verified each time. It may be used by many at once, and several processes may share a
// directory: what one of them removes, another fetches again.
type cache struct {
	dir string
	max int64

	once  sync.Once // what is on the disk is read when it is first asked for
	read  func()
	mu    sync.Mutex
	known map[string]*list.Element // by key
	order *list.List               // of *kept; used longest ago first
	uses  map[sallyport.Digest]int // notes of a content
	bytes int64

	pending atomic.Int64 // bytes that are being written
}

// errFull says that what is being written would not fit into the cache.
var errFull = &upstreamError{http.StatusServiceUnavailable, "the package cache is too small for all that is being fetched at a time; try again"}

// counted counts what goes into a file of new/.
type counted struct {
	c    *cache
	size int64
}

func (w *counted) Write(p []byte) (int, error) {
	w.size += int64(len(p))
	if w.c.pending.Add(int64(len(p))) > w.c.max && w.size > 1<<20 { // what is small is always taken
		return 0, errFull
	}
	return len(p), nil
}

type kept struct {
	note    note
	touched time.Time
}

// leftAge is how old a file that nothing leads to must be to be taken for a leftover: another process may be
// about to write what leads to it.
const leftAge = 2 * fileTimeout

// openCache takes what an earlier process left in dir. It reads that when it is first asked; warn hears when it cannot.
func openCache(dir string, limit int64, now time.Time, warn func(error)) (*cache, error) {
	if limit <= 0 {
		limit = defaultCacheBytes
	}
	c := &cache{dir: dir, max: limit, known: map[string]*list.Element{}, order: list.New(), uses: map[sallyport.Digest]int{}}
	for _, d := range []string{"content", "notes", "new"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("make the package cache: %w", err)
		}
	}
	c.read = func() {
		if err := c.load(now); err != nil {
			warn(fmt.Errorf("read the package cache: %w", err))
		}
	}
	return c, nil
}

// lock locks c.mu with what is on the disk known. What cannot be read there is fetched again.
func (c *cache) lock() {
	c.once.Do(c.read)
	c.mu.Lock()
}

func (c *cache) load(now time.Time) error {
	files, err := os.ReadDir(filepath.Join(c.dir, "notes"))
	if err != nil {
		return err
	}
	var all []kept
	for _, f := range files {
		path := filepath.Join(c.dir, "notes", f.Name())
		n, head, err := readNote(path)
		info, statErr := f.Info()
		if err == nil && statErr == nil && filepath.Base(c.notePath(n.Key)) == f.Name() {
			size := info.Size() - head
			if !n.Within {
				if content, err := os.Lstat(c.contentPath(n.Digest)); err == nil {
					size = content.Size()
				} else {
					size = -1
				}
			}
			if size == n.Size {
				all = append(all, kept{n, info.ModTime()})
				continue
			}
		}
		_ = os.Remove(path) // it is fetched again
	}
	slices.SortFunc(all, func(a, b kept) int { return a.touched.Compare(b.touched) })
	for _, k := range all {
		c.enter(k)
	}
	for _, d := range []string{"content", "new"} {
		files, err := os.ReadDir(filepath.Join(c.dir, d))
		if err != nil {
			return err
		}
		for _, f := range files {
			if info, err := f.Info(); err == nil && c.uses[sallyport.Digest("sha256:"+f.Name())] == 0 && now.Sub(info.ModTime()) > leftAge {
				_ = os.Remove(filepath.Join(c.dir, d, f.Name())) // nothing leads to it
			}
		}
	}
	c.evict()
	return nil
}

func (c *cache) notePath(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(c.dir, "notes", hex.EncodeToString(sum[:]))
}

func (c *cache) contentPath(d sallyport.Digest) string {
	return filepath.Join(c.dir, "content", d.Hex())
}

// readNote reads a note, the first line of a file, and its checksum, the second; head is the size of both.
func readNote(path string) (n note, head int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return note{}, 0, err
	}
	defer f.Close()
	return parseNote(bufio.NewReader(io.LimitReader(f, maxNote)))
}

func parseNote(r *bufio.Reader) (n note, head int64, err error) {
	body, err := r.ReadBytes('\n')
	if err != nil {
		return note{}, 0, errCorrupt
	}
	sum, err := r.ReadBytes('\n')
	if err != nil || string(sum) != string(sallyport.DigestOf(body[:len(body)-1]))+"\n" {
		return note{}, 0, errCorrupt
	}
	if err := json.Unmarshal(body, &n); err != nil {
		return note{}, 0, err
	}
	_, err = sallyport.ParseDigest(string(n.Digest))
	return n, int64(len(body) + len(sum)), err
}

// writeNote writes a note, and the content that lies within it, to a file of new/.
func (c *cache) writeNote(n note, within []byte) (temp string, err error) {
	raw, err := json.Marshal(n)
	if err != nil {
		return "", err
	}
	all := make([]byte, 0, len(raw)+len(n.Digest)+2+len(within))
	all = append(append(all, raw...), '\n')
	all = append(append(append(all, sallyport.DigestOf(raw)...), '\n'), within...)
	temp = filepath.Join(c.dir, "new", rand.Text())
	if err := os.WriteFile(temp, all, 0o600); err != nil {
		_ = os.Remove(temp)
		return "", err
	}
	return temp, nil
}

// enter makes k known. c.mu is held, or nobody else has c yet.
func (c *cache) enter(k kept) {
	if old, ok := c.known[k.note.Key]; ok {
		c.leave(old, k.note.Digest)
	}
	c.known[k.note.Key] = c.order.PushBack(&k)
	if k.note.Within {
		c.bytes += k.note.Size
	} else if c.uses[k.note.Digest]++; c.uses[k.note.Digest] == 1 {
		c.bytes += k.note.Size
	}
}

// leave forgets e, and removes its content unless it is spare's or another note's.
func (c *cache) leave(e *list.Element, spare sallyport.Digest) {
	n := e.Value.(*kept).note
	c.order.Remove(e)
	delete(c.known, n.Key)
	if n.Within {
		c.bytes -= n.Size
		return
	}
	if c.uses[n.Digest]--; c.uses[n.Digest] > 0 {
		return
	}
	delete(c.uses, n.Digest)
	c.bytes -= n.Size
	if n.Digest != spare {
		_ = os.Remove(c.contentPath(n.Digest)) // readers that have it open keep it; swept at the next start otherwise
	}
}

// evict makes the cache as small as it must be.
func (c *cache) evict() {
	for c.order.Len() > 1 && (c.bytes > c.max || c.order.Len() > maxCached) {
		e := c.order.Front()
		_ = os.Remove(c.notePath(e.Value.(*kept).note.Key))
		c.leave(e, "")
	}
}

// look returns the note under key.
func (c *cache) look(key string) (note, bool) {
	c.lock()
	defer c.mu.Unlock()
	e, ok := c.known[key]
	if !ok {
		return note{}, false
	}
	return e.Value.(*kept).note, true
}

// content is verified content, open for reading.
type content struct {
	note note
	io.ReadSeeker
	held []byte   // nil: it is read from file
	file *os.File // nil: it is held
}

// again returns held content for one more reader, and nil for other content.
func (c *content) again() *content {
	if c.held == nil {
		return nil
	}
	return &content{note: c.note, ReadSeeker: bytes.NewReader(c.held), held: c.held}
}

func (c *content) Close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}

// open returns the content under key, verified. What has changed since it was put there is forgotten
// and reported as fs.ErrNotExist, so that it is fetched again.
func (c *cache) open(key string, now time.Time) (*content, error) {
	c.lock()
	e, ok := c.known[key]
	if !ok {
		c.mu.Unlock()
		return nil, fs.ErrNotExist
	}
	k := e.Value.(*kept)
	c.order.MoveToBack(e)
	if now.Sub(k.touched) > touchEvery {
		k.touched = now
		_ = os.Chtimes(c.notePath(key), now, now) // only the order of eviction depends on it
	}
	n := k.note
	c.mu.Unlock()
	got, err := c.openContent(n)
	if err == nil {
		return got, nil
	}
	c.lock()
	defer c.mu.Unlock()
	if now, ok := c.known[key]; ok && now == e {
		_ = os.Remove(c.notePath(key))
		c.leave(e, "")
	}
	if !n.Within {
		_ = os.Remove(c.contentPath(n.Digest))
	}
	return nil, fs.ErrNotExist
}

func (c *cache) openContent(n note) (*content, error) {
	if !n.Within {
		f, err := os.Open(c.contentPath(n.Digest))
		if err != nil {
			return nil, err
		}
		return verified(f, n)
	}
	f, err := os.Open(c.notePath(n.Key))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReader(io.LimitReader(f, maxNote+n.Size+1))
	if _, _, err := parseNote(r); err != nil {
		return nil, err
	}
	raw := make([]byte, n.Size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	if sallyport.DigestOf(raw) != n.Digest {
		return nil, errCorrupt // or another process's, which is fetched again
	}
	return &content{note: n, ReadSeeker: bytes.NewReader(raw), held: raw}, nil
}

// verified makes content of a file, which it closes unless it is handed out.
func verified(f *os.File, n note) (*content, error) {
	if n.Size <= maxHeld {
		defer f.Close()
		raw, err := io.ReadAll(io.LimitReader(f, n.Size+1))
		if err != nil {
			return nil, err
		}
		if sallyport.DigestOf(raw) != n.Digest {
			return nil, errCorrupt
		}
		return &content{note: n, ReadSeeker: bytes.NewReader(raw), held: raw}, nil
	}
	digest, _, err := sallyport.DigestReader(f)
	if err == nil && digest != n.Digest {
		err = errCorrupt
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &content{note: n, ReadSeeker: f, file: f}, nil
}

// put keeps what from holds, at most limit bytes, under n.Key. check sees the note and a file of the content
// before anything can be read from the cache; it may add to the note's sums.
func (c *cache) put(n note, from io.Reader, limit int64, check func(n *note, path string) error) (*content, error) {
	head, err := io.ReadAll(io.LimitReader(from, min(limit, maxWithin)+1))
	if err != nil {
		return nil, err
	}
	if int64(len(head)) > limit {
		return nil, errTooLarge(limit)
	}
	if len(head) > maxWithin {
		return c.putLarge(n, io.MultiReader(bytes.NewReader(head), from), limit, check)
	}
	sums := newTally()
	_, _ = sums.Write(head)
	n.Size, n.Within = int64(len(head)), true
	sums.into(&n)
	if check != nil {
		if err := asFile(head, func(path string) error { return check(&n, path) }); err != nil {
			return nil, err
		}
	}
	temp, err := c.writeNote(n, head)
	if err != nil {
		return nil, cannotWrite(err)
	}
	c.lock()
	defer c.mu.Unlock()
	if err := os.Rename(temp, c.notePath(n.Key)); err != nil {
		_ = os.Remove(temp)
		return nil, cannotWrite(err)
	}
	c.enter(kept{n, n.Fetched})
	c.evict()
	return &content{note: n, ReadSeeker: bytes.NewReader(head), held: head}, nil
}

// putLarge is put for content that has a file of its own.
func (c *cache) putLarge(n note, from io.Reader, limit int64, check func(n *note, path string) error) (*content, error) {
	temp := filepath.Join(c.dir, "new", rand.Text())
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, cannotWrite(err)
	}
	defer os.Remove(temp)
	defer f.Close()
	room := &counted{c: c}
	defer func() { c.pending.Add(-room.size) }()
	sums := newTally()
	n.Size, err = io.Copy(io.MultiWriter(room, f, sums), io.LimitReader(from, limit+1))
	if err != nil {
		return nil, err
	}
	if n.Size > limit {
		return nil, errTooLarge(limit)
	}
	sums.into(&n)
	if check != nil {
		if err := check(&n, temp); err != nil {
			return nil, err
		}
	}
	written, err := c.writeNote(n, nil)
	if err != nil {
		return nil, cannotWrite(err)
	}
	defer os.Remove(written)
	c.lock()
	err = os.Rename(temp, c.contentPath(n.Digest)) // over one that is the same
	if err == nil {
		err = os.Rename(written, c.notePath(n.Key))
	}
	if err != nil {
		c.mu.Unlock()
		return nil, cannotWrite(err)
	}
	c.enter(kept{n, n.Fetched})
	file, err := os.Open(c.contentPath(n.Digest)) // before evict can remove it
	c.evict()
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return verified(file, n) // which takes long when it is large
}

func cannotWrite(err error) error { return fmt.Errorf("write to the package cache: %w", err) }

// tally computes the checksums that the protocols compare.
type tally struct{ h256, h512, h1 hash.Hash }

func newTally() tally { return tally{sha256.New(), sha512.New(), sha1.New()} } //nolint:gosec // see the import

func (s tally) Write(p []byte) (int, error) {
	s.h256.Write(p)
	s.h512.Write(p)
	return s.h1.Write(p)
}

// into notes the sums of what was written.
func (s tally) into(n *note) {
	n.Digest = sallyport.Digest("sha256:" + sumHex(s.h256))
	n.Sums = map[string]string{"sha256": sumHex(s.h256), "sha512": sumHex(s.h512), "sha1": sumHex(s.h1)}
}

// asFile has use read raw by a path, without a file on a disk.
func asFile(raw []byte, use func(path string) error) error {
	fd, err := unix.MemfdCreate("package", unix.MFD_CLOEXEC)
	if err != nil {
		return cannotWrite(err)
	}
	f := os.NewFile(uintptr(fd), "package")
	defer f.Close()
	if _, err := f.Write(raw); err != nil {
		return cannotWrite(err)
	}
	return use(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// forget removes what is kept under key.
func (c *cache) forget(key string) {
	c.lock()
	defer c.mu.Unlock()
	if e, ok := c.known[key]; ok {
		_ = os.Remove(c.notePath(key)) // it leads nowhere any more
		c.leave(e, "")
	}
}

// renew says that an upstream still answers what is kept under key.
func (c *cache) renew(key string, fetched time.Time) {
	c.lock()
	defer c.mu.Unlock()
	if e, ok := c.known[key]; ok {
		k := e.Value.(*kept)
		k.note.Fetched, k.touched = fetched, fetched
		c.rewrite(k.note)
	}
}

// rewrite writes the changed note of what is kept. Where it is lost, it is asked for again. c.mu is held.
func (c *cache) rewrite(n note) {
	var within []byte
	if n.Within {
		got, err := c.openContent(n)
		if err != nil {
			return
		}
		within = got.held
	}
	temp, err := c.writeNote(n, within)
	if err == nil && os.Rename(temp, c.notePath(n.Key)) != nil {
		_ = os.Remove(temp)
	}
}

func sumHex(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// errTooLarge says that an answer has more bytes than its kind may have.
type errTooLarge int64

func (e errTooLarge) Error() string {
	return fmt.Sprintf("the registry's answer has more than %s", sizeOf(int64(e)))
}

func sizeOf(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// printable bounds what is quoted of foreign text, and keeps to one line of ASCII.
func printable(s string, limit int) string {
	out := strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return ' '
		}
		return r
	}, s[:min(len(s), limit)])
	return strings.Join(strings.Fields(out), " ")
}
