package service

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// maxOutput is the size at which the output file is set aside as .1, in place
// of the one before: a release that prints without end takes twice as much.
const maxOutput = 8 << 20

// output is a file of bounded size to which a release's streams are written,
// byte for byte. When the disk is full, output is lost and the release goes on:
// Write never fails.
type output struct {
	path string
	max  int64

	mu   sync.Mutex // stdout and stderr are written by two goroutines
	file *os.File   // nil after a failed rotation
	size int64
}

func openOutput(path string, max int64) (*output, error) {
	o := &output{path: path, max: max}
	if err := o.open(0); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *output) open(flag int) error {
	f, err := os.OpenFile(o.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|flag, 0o600)
	if err != nil {
		return fmt.Errorf("open output: %w", err)
	}
	fi, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open output: %w", err), f.Close())
	}
	o.file, o.size = f, fi.Size()
	return nil
}

// Write keeps p, as far as the disk allows, and reports it as written.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for rest := p; len(rest) > 0; {
		if o.size >= o.max {
			o.rotate()
		}
		if o.file == nil {
			break
		}
		n := min(int64(len(rest)), o.max-o.size)
		if _, err := o.file.Write(rest[:n]); err != nil {
			break
		}
		o.size += n
		rest = rest[n:]
	}
	return len(p), nil
}

// rotate sets the full file aside. Should that fail, the file is begun anew:
// the bound holds before the history.
func (o *output) rotate() {
	if o.file != nil {
		_ = o.file.Close()
		o.file = nil
	}
	_ = os.Rename(o.path, o.path+".1")
	_ = o.open(os.O_TRUNC)
}

func (o *output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}
