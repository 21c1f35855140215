package pidone

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// The host and a room's init speak over two kinds of unix sockets. The control
// socket (seqpacket) carries one byte per packet: HelloByte from init when it
// is ready, TalkByte from the host with one end of a talk attached. A talk
// (stream) is about one process or one connection: a request frame from the
// host, then single signal bytes; one answer frame from init. The host closing
// a talk means that nobody waits any more: init kills what it was about.
//
// A frame is a big-endian uint32 length and that many bytes of JSON.

const (
	HelloByte = 'h'
	TalkByte  = 't'

	// MaxRequest is above what execve takes (argv and environment together are
	// limited to a quarter of the stack limit, 2 MiB by default).
	MaxRequest = 4 << 20
	// MaxAnswer bounds the room's word: a few numbers or one short error.
	MaxAnswer = 4 << 10
	// maxFDs is what one message may carry: stdin, stdout, stderr.
	maxFDs = 3
)

const (
	OpExec   = "exec"
	OpDial   = "dial"
	OpListen = "listen"
	// As these two, for a room whose sockets are not the host's kernel's: the talk itself
	// becomes the connection after the answer. Connections to a port that was asked for are
	// accepted one for each request.
	OpRelayDial   = "relay-dial"
	OpRelayListen = "relay-listen"
	OpRelayAccept = "relay-accept"
)

// Request is what the host asks of init.
type Request struct {
	Op   string   `json:"op"`
	Argv ByteList `json:"argv,omitempty"`
	Env  ByteList `json:"env,omitempty"`
	Dir  []byte   `json:"dir,omitempty"`
	User string   `json:"user,omitempty"`
	// Std tells which of stdin, stdout, stderr are attached to the frame, in
	// that order; the others are the room's /dev/null.
	Std  [3]bool `json:"std"`
	Port int     `json:"port,omitempty"`
}

// ByteList is a list of strings without NUL bytes that need not be UTF-8, as
// arguments and environments are. JSON would change them: it goes as base64 of the
// strings, each ended by a NUL.
type ByteList []string

// MarshalJSON implements json.Marshaler.
func (l ByteList) MarshalJSON() ([]byte, error) {
	size := 0
	for _, s := range l {
		size += len(s) + 1
	}
	b := make([]byte, 0, size)
	for _, s := range l {
		b = append(append(b, s...), 0)
	}
	return json.Marshal(b)
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *ByteList) UnmarshalJSON(text []byte) error {
	var b []byte
	if err := json.Unmarshal(text, &b); err != nil {
		return err
	}
	for len(b) > 0 {
		s, rest, ended := bytes.Cut(b, []byte{0})
		if !ended {
			return errors.New("list does not end with NUL")
		}
		*l, b = append(*l, string(s)), rest
	}
	return nil
}

// Answer is init's word about a request.
type Answer struct {
	Failed string `json:"failed,omitempty"` // why it could not be done
	Code   int    `json:"code,omitempty"`   // exit code, when no signal ended it
	Signal int    `json:"signal,omitempty"`
}

// ParseAnswer reads an answer and refuses what no honest init would say.
func ParseAnswer(b []byte) (Answer, error) {
	var a Answer
	if err := json.Unmarshal(b, &a); err != nil {
		return Answer{}, fmt.Errorf("answer of the room's init: %w", err)
	}
	if a.Code < 0 || a.Code > 255 || a.Signal < 0 || a.Signal > 64 {
		return Answer{}, fmt.Errorf("answer of the room's init: code %d, signal %d out of range", a.Code, a.Signal)
	}
	if len(a.Failed) > 512 {
		a.Failed = a.Failed[:512]
	}
	return a, nil
}

// WriteFrame sends v with the files attached to its first byte. The files stay
// the caller's.
func WriteFrame(c Socket, v any, files ...*os.File) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > MaxRequest {
		return fmt.Errorf("message of %d bytes is over the limit of %d", len(body), MaxRequest)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	frame = append(frame, body...)
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = syscall.UnixRights(fds...)
	}
	n, err := c.WriteMsg(frame, oob)
	if err != nil || n == len(frame) {
		return err // a write of nothing would fail if the other side has answered and gone already
	}
	_, err = c.Write(frame[n:])
	return err
}

// ReadFrame reads one frame of at most limit bytes and the files that came
// with its first byte, at most maxFDs. The caller closes the files.
func ReadFrame(c Socket, limit int) ([]byte, []*os.File, error) {
	var head [4]byte
	n, files, err := ReadWithFiles(c, head[:])
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) ([]byte, []*os.File, error) {
		CloseAll(files)
		return nil, nil, err
	}
	if _, err := io.ReadFull(c, head[n:]); err != nil {
		return fail(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if int64(size) > int64(limit) {
		return fail(fmt.Errorf("frame of %d bytes is over the limit of %d", size, limit))
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return fail(err)
	}
	return body, files, nil
}

// ReadWithFiles reads once into p and takes the attached files, close-on-exec.
func ReadWithFiles(c Socket, p []byte) (int, []*os.File, error) {
	oob := make([]byte, syscall.CmsgSpace(maxFDs*4))
	n, oobn, flags, err := c.ReadMsg(p, oob)
	if err != nil {
		return 0, nil, err
	}
	if n == 0 {
		return 0, nil, io.EOF
	}
	var files []*os.File
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, nil, fmt.Errorf("parse control message: %w", err)
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			continue // not a message with files
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	if flags&syscall.MSG_CTRUNC != 0 {
		CloseAll(files)
		return 0, nil, fmt.Errorf("more than %d files attached", maxFDs)
	}
	return n, files, nil
}

// CloseAll closes files.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
