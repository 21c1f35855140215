package forge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/sallyport-ci/sallyport"
)

// Git's packet format (gitprotocol-common, "pkt-line format") and the command
// list of a push (gitprotocol-pack, "Reference Update Request").

const (
	// The longest pkt-line, with its four digits of length.
	maxPacket = 65520
	// Refs that one push may update: each may start runs.
	maxUpdates = 2000
	// The longest ref name: it becomes part of pages, logs and file names.
	maxRef = 512
	// Lines that say where a shallow pusher's history ends.
	maxShallow = 2000
	// The whole command list, which is held in memory.
	maxCommands = 4 << 20
)

// packet is one pkt-line. A flush, delimiter or response-end packet has no data
// and its kind as the length that was sent: 0, 1 or 2.
type packet struct {
	kind int // 0 flush, 1 delimiter, 2 response end, 4 data
	data []byte
}

var errBadPacket = errors.New("malformed pkt-line")

// readPacket reads one pkt-line. io.EOF means that there was none.
func readPacket(r io.Reader) (packet, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return packet{}, err
	}
	n := 0
	for _, c := range head {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | int(c-'a'+10)
		case c >= 'A' && c <= 'F':
			n = n<<4 | int(c-'A'+10)
		default:
			return packet{}, errBadPacket
		}
	}
	switch {
	case n <= 2:
		return packet{kind: n}, nil
	case n == 3 || n > maxPacket:
		return packet{}, errBadPacket
	}
	data := make([]byte, n-4)
	if _, err := io.ReadFull(r, data); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return packet{}, err
	}
	return packet{kind: 4, data: data}, nil
}

// append writes the packet to b in its wire form.
func (p packet) append(b []byte) []byte {
	if p.kind != 4 {
		return fmt.Appendf(b, "%04x", p.kind)
	}
	return append(fmt.Appendf(b, "%04x", len(p.data)+4), p.data...)
}

func line(format string, args ...any) packet {
	return packet{kind: 4, data: fmt.Appendf(nil, format, args...)}
}

var flush = packet{kind: 0}

// commands is the first part of a push: what it wants to change.
type commands struct {
	raw     []byte // as it was read, to be handed on
	updates []sallyport.RefUpdate
	caps    []string
	// refused says why the push as a whole cannot be: it is well-formed but not
	// acceptable. The updates are then those that were read so far.
	refused error
}

// readCommands reads up to and including the flush packet; it takes no byte
// more from r.
func readCommands(r io.Reader) (commands, error) {
	var c commands
	shallow, first := 0, true
	seen := map[string]bool{}
	for {
		p, err := readPacket(r)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return c, err
		}
		if c.raw = p.append(c.raw); len(c.raw) > maxCommands {
			return c, errors.New("the list of commands is too long")
		}
		if p.kind == 0 {
			return c, nil
		}
		if p.kind != 4 {
			return c, errBadPacket
		}
		text := p.data
		if id, ok := bytes.CutPrefix(text, []byte("shallow ")); ok {
			if shallow++; shallow > maxShallow || !validCommit(strings.TrimSuffix(string(id), "\n")) {
				return c, errors.New("malformed shallow line")
			}
			continue
		}
		if first {
			var caps []byte
			text, caps, _ = bytes.Cut(text, []byte{0})
			c.caps = strings.Fields(string(caps))
			first = false
		}
		if len(c.updates) == maxUpdates {
			c.refused = sallyport.Errorf(sallyport.CodeInvalid, "the push updates more than %d refs", maxUpdates).
				WithHint("push fewer refs at a time")
			return c, nil
		}
		u, err := parseCommand(strings.TrimSuffix(string(text), "\n"))
		if err != nil {
			return c, err
		}
		c.updates = append(c.updates, u)
		switch {
		case !validRef(u.Ref):
			c.refuse("%.80q is not a ref that can be pushed to", u.Ref)
		case seen[u.Ref]:
			c.refuse("the push updates %.80q twice", u.Ref)
		}
		seen[u.Ref] = true
	}
}

func (c *commands) refuse(format string, args ...any) {
	if c.refused == nil {
		c.refused = sallyport.Errorf(sallyport.CodeInvalid, format, args...)
	}
}

func (c *commands) can(capability string) bool {
	for _, have := range c.caps {
		if have == capability {
			return true
		}
	}
	return false
}

// deletesOnly reports whether no pack follows the commands.
func (c *commands) deletesOnly() bool {
	for _, u := range c.updates {
		if u.New != sallyport.ZeroCommit {
			return false
		}
	}
	return true
}

// parseCommand reads "OLD NEW REF".
func parseCommand(s string) (sallyport.RefUpdate, error) {
	before, rest, ok := strings.Cut(s, " ")
	after, ref, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || !validCommit(before) || !validCommit(after) || ref == "" ||
		before == sallyport.ZeroCommit && after == sallyport.ZeroCommit {
		return sallyport.RefUpdate{}, errors.New("malformed command of a push")
	}
	return sallyport.RefUpdate{Ref: ref, Old: before, New: after}, nil
}

// validRef reports whether name is a well-formed full ref name by the rules of
// git-check-ref-format, valid UTF-8, and not too long.
func validRef(name string) bool {
	rest, ok := strings.CutPrefix(name, "refs/")
	if !ok || len(name) > maxRef || !utf8.ValidString(name) || !strings.Contains(rest, "/") ||
		strings.Contains(name, "..") || strings.Contains(name, "@{") || strings.HasSuffix(name, ".") {
		return false
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f && c < 0xa0 || strings.ContainsRune(`~^:?*[\`, c) {
			return false
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return true
}

func validBranch(name string) bool {
	return !strings.HasPrefix(name, "-") && validRef("refs/heads/"+name)
}
