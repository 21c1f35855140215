package redact

import (
	"bytes"
	"io"
)

// Writer masks what is written to it and passes the rest on. What it passes on
// in total does not depend on how the input is split into writes.
//
// The masked bytes are the union of all occurrences of all patterns; each
// maximal run of them on one line becomes one Mask. Line ends are kept even inside a
// masked value, so that the lines of input and output correspond.
//
// Only the bytes that may turn out to be the beginning of a value are held back: fewer than
// the longest pattern has, and none at all most of the time. A Writer is
// not safe for concurrent use.
type Writer struct {
	set   *Set
	dst   io.Writer
	carry []byte // held back
	out   []byte // scratch
	releaser
}

// NewWriter returns a Writer that masks the set's values, also those that are
// added later, and writes to dst.
func (s *Set) NewWriter(dst io.Writer) *Writer { return &Writer{set: s, dst: dst} }

// NewScrubber returns a Writer that keeps lengths: each masked byte becomes an asterisk. It
// is for protocols that say beforehand how long something is.
func (s *Set) NewScrubber(dst io.Writer) *Writer {
	return &Writer{set: s, dst: dst, releaser: releaser{sameLength: true}}
}

// Write takes all of p, unless dst fails.
func (w *Writer) Write(p []byte) (int, error) {
	m := w.set.matcher()
	t := p
	if len(w.carry) > 0 {
		w.carry = append(w.carry, p...)
		t = w.carry
	}
	keep := m.pending(t)
	err := w.pass(m, t, keep)
	w.carry = append(w.carry[:0], t[keep:]...)
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush passes on what is held back, in the knowledge that nothing follows it.
// Flushing in the midst of a value splits it in two that are not recognised.
func (w *Writer) Flush() error {
	err := w.pass(w.set.matcher(), w.carry, len(w.carry))
	w.carry = w.carry[:0]
	return err
}

// Held returns the number of bytes that are held back.
func (w *Writer) Held() int { return len(w.carry) }

// Masked returns how many runs of bytes were masked so far.
func (w *Writer) Masked() int { return w.runs }

// pass masks t[:keep] and writes it to dst.
func (w *Writer) pass(m *matcher, t []byte, keep int) error {
	if keep == 0 {
		return nil
	}
	out := t[:keep]
	if start, _ := m.find(t, 0); w.cover > 0 || start >= 0 && start < keep {
		w.out = w.release(m, t, keep, w.out[:0])
		out = w.out
	} else {
		w.masking = false
	}
	_, err := w.dst.Write(out)
	return err
}

// releaser is the state of masking between two pieces of a stream.
type releaser struct {
	cover   int  // so many of the next bytes are masked already
	masking bool // the last byte was masked and on the present line

	sameLength bool
	runs       int // masked so far
}

// release appends the masked form of t[:keep] to out. No pattern may start
// before keep and end beyond t.
func (r *releaser) release(m *matcher, t []byte, keep int, out []byte) []byte {
	done, cover := 0, r.cover // t[:done] is written, t[done:cover] is masked
	for at := 0; ; {
		start, end := m.find(t, at)
		if start < 0 || start >= keep {
			break
		}
		if start > cover {
			out = r.hide(out, t[done:cover])
			out = r.show(out, t[cover:start])
			done = start
		}
		cover = max(cover, end)
		at = start + 1
	}
	hidden := min(cover, keep)
	out = r.hide(out, t[done:hidden])
	out = r.show(out, t[hidden:keep])
	r.cover = cover - hidden
	return out
}

func (r *releaser) show(out, b []byte) []byte {
	if len(b) > 0 {
		r.masking = false
	}
	return append(out, b...)
}

func (r *releaser) hide(out, b []byte) []byte {
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end != 0 {
			if !r.masking {
				r.runs++
			}
			n := len(b)
			if end >= 0 {
				n = end
			}
			switch {
			case r.sameLength:
				out = append(out, bytes.Repeat([]byte{'*'}, n)...)
			case !r.masking:
				out = append(out, Mask...)
			}
			r.masking = true
		}
		if end < 0 {
			break
		}
		out = append(out, '\n')
		r.masking = false
		b = b[end+1:]
	}
	return out
}
