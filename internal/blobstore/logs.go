package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"sync"

	"github.com/sallyport-ci/sallyport"
)

const (
	// maxOpenLogs bounds the files that are kept open: some 20 parallel jobs
	// and their readers, and room to spare.
	maxOpenLogs = 64
	// maxRead bounds what one Read returns, whatever it asks for.
	maxRead  = 8 << 20
	logLabel = "sallyport.log.v1"
	logExt   = ".log"
)

// Logs keeps logs in a directory, a file for each job.
//
// Append does not wait for the disk: what a crash of this process leaves
// is whole, but a power cut may take the last megabyte of a log that is still
// written. Size makes what it reports durable; who records the end of a log asks for it.
// A frame that was torn is cut when the log is opened to append.
type Logs struct {
	kms  sallyport.KMS
	root *os.Root
	sync durability

	mu     sync.Mutex
	open   map[sallyport.JobID]*entry
	clock  uint64 // counts uses, to find the entry that was not used for longest
	closed bool
}

var _ sallyport.Logs = (*Logs)(nil)

// entry is a log that is open, or being opened.
type entry struct {
	users int
	used  uint64
	mu    sync.RWMutex // held to append, and for reading to read
	log   *logFile     // nil: there is none yet
}

// OpenLogs opens the directory.
func OpenLogs(c Config) (*Logs, error) {
	root, err := c.open()
	if err != nil {
		return nil, err
	}
	return &Logs{kms: c.KMS, root: root, sync: durability{c.Volatile}, open: make(map[sallyport.JobID]*entry)}, nil
}

// Close makes all logs durable and closes them. No other method may run.
func (l *Logs) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var err error
	for _, e := range l.open {
		if e.log != nil {
			err = errors.Join(err, e.log.close())
		}
	}
	return errors.Join(err, l.root.Close())
}

// logID is a job's id and, of a later attempt, its number.
var logID = regexp.MustCompile(`^[a-z0-9-]{1,64}(\.[0-9]{1,9})?$`)

// logName is the file of a job's log. Job ids come from the store, but a name
// is checked where it becomes one.
func logName(j sallyport.JobID) (string, error) {
	if !logID.MatchString(string(j)) {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not the id of a job", string(j))
	}
	return string(j) + logExt, nil
}

// acquire returns the entry of a job, to be released.
func (l *Logs) acquire(j sallyport.JobID) (*entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, sallyport.Errorf(sallyport.CodeUnavailable, "the logs are closed")
	}
	e := l.open[j]
	if e == nil {
		e = &entry{}
		l.open[j] = e
	}
	e.users++
	l.clock++
	e.used = l.clock
	return e, nil
}

// release gives an entry back, and closes the one not used for longest when there are too many.
func (l *Logs) release(j sallyport.JobID, e *entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.users--
	switch {
	case e.users > 0:
		return nil
	case e.log == nil:
		delete(l.open, j)
		return nil
	case e.log.broken(): // its next user opens it again
		delete(l.open, j)
		_ = e.log.f.Close() // the failure was told
		return nil
	}
	if len(l.open) <= maxOpenLogs {
		return nil
	}
	var oldest sallyport.JobID
	for j, e := range l.open {
		if e.users == 0 && (oldest == "" || e.used < l.open[oldest].used) {
			oldest = j
		}
	}
	if oldest == "" {
		return nil
	}
	e = l.open[oldest]
	delete(l.open, oldest)
	return e.log.close()
}

// Append writes what of data lies beyond the end; bytes that are there stay as they are.
func (l *Logs) Append(ctx context.Context, j sallyport.JobID, offset int64, data []byte) (end int64, err error) {
	name, err := logName(j)
	if err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, sallyport.Errorf(sallyport.CodeInvalid, "a log has no offset %d", offset)
	}
	e, err := l.acquire(j)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.release(j, e)) }()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.log == nil {
		if e.log, err = l.load(ctx, j, name); errors.Is(err, fs.ErrNotExist) {
			if offset > 0 {
				return 0, beyond(0)
			}
			e.log, err = l.create(ctx, j, name)
		}
		if err != nil {
			return 0, err
		}
	}
	if offset > e.log.end {
		return e.log.end, beyond(e.log.end)
	}
	if have := e.log.end - offset; have < int64(len(data)) {
		err = e.log.append(data[have:])
	}
	return e.log.end, err
}

func beyond(end int64) error {
	return sallyport.Errorf(sallyport.CodeConflict, "the log ends at %d", end).WithHint("go on from there")
}

// Read returns at most max bytes, and never more than 8 MiB.
func (l *Logs) Read(ctx context.Context, j sallyport.JobID, offset int64, max int) (data []byte, err error) {
	if offset < 0 {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "a log has no offset %d", offset)
	}
	err = l.with(ctx, j, func(f *logFile) error {
		data, err = f.read(offset, min(max, maxRead))
		return err
	})
	return data, err
}

// Size returns the end of the log, up to which it is durable then.
func (l *Logs) Size(ctx context.Context, j sallyport.JobID) (end int64, err error) {
	err = l.with(ctx, j, func(f *logFile) error {
		end = f.end
		return f.sync()
	})
	return end, err
}

// with calls use with the log, if there is one, while nobody appends.
func (l *Logs) with(ctx context.Context, j sallyport.JobID, use func(*logFile) error) (err error) {
	name, err := logName(j)
	if err != nil {
		return err
	}
	e, err := l.acquire(j)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.release(j, e)) }()
	if err := l.ensure(ctx, j, name, e); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a log that was never written is empty
		}
		return err
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	return use(e.log)
}

func (l *Logs) ensure(ctx context.Context, j sallyport.JobID, name string, e *entry) (err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.log == nil {
		e.log, err = l.load(ctx, j, name)
	}
	return err
}

// create makes a log that has no frames. It gets its name when its key is on disk.
func (l *Logs) create(ctx context.Context, j sallyport.JobID, name string) (_ *logFile, err error) {
	key, sealed, err := newKey(ctx, l.kms, logLabel, string(j))
	if err != nil {
		return nil, err
	}
	tmp := name + ".tmp" // one process owns the directory: what is there is a leftover
	f, err := l.root.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, diskError("make a log", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = l.root.Remove(tmp)
		}
	}()
	head := encodeHead(sealed)
	if _, err := f.Write(head); err != nil {
		return nil, diskError("make a log", err)
	}
	if err := errors.Join(l.sync.file(f), l.root.Rename(tmp, name), l.sync.names(l.root, ".")); err != nil {
		return nil, diskError("make a log", err)
	}
	return newLogFile(f, l.sync, j, key, int64(len(head)))
}

// load opens a log that exists, and finds its end.
func (l *Logs) load(ctx context.Context, j sallyport.JobID, name string) (_ *logFile, err error) {
	f, err := l.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, diskError("open a log", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	sealed, start, err := decodeHead(f)
	if err != nil {
		return nil, err
	}
	key, err := openKey(ctx, l.kms, sealed, logLabel, string(j))
	if err != nil {
		return nil, err
	}
	log, err := newLogFile(f, l.sync, j, key, start)
	if err != nil {
		return nil, err
	}
	if err := log.recover(); err != nil {
		return nil, fmt.Errorf("log of job %s: %w", j, err)
	}
	return log, nil
}
