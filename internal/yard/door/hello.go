package door

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

const (
	// tlsHandshake is the first byte of a connection of TLS.
	tlsHandshake = 22
	// maxHello bounds a ClientHello with its records' headers. Those of today's clients,
	// with keys for quantum computers, have two kilobytes.
	maxHello = 32 << 10
	// extensionECH is encrypted_client_hello (RFC 9849).
	extensionECH = 0xfe0d
)

// hello is what a client says before anything is secret.
type hello struct {
	name string // server_name as it stands there
	ech  bool   // another name may be hidden in it
}

// mismatch says why the name in a hello is not the host, "" if it is.
func (h hello) mismatch(host string) string {
	if h.name == "" {
		return ReasonNoSNI
	}
	if name, ok := canonical(h.name); !ok || name != host {
		return ReasonSNI
	}
	return ""
}

// errSeen ends the standard library's handshake when the hello was read.
var errSeen = errors.New("seen")

// readHello reads a ClientHello and leaves it to be read again, or says why there is none.
func readHello(c *roomConn, wait time.Duration) (hello, string) {
	_ = c.SetReadDeadline(time.Now().Add(wait))
	defer c.SetReadDeadline(time.Time{})
	seen := &overhear{from: c}
	h, err := parseHello(seen)
	c.ahead = append(seen.heard, c.ahead...)
	switch {
	case err == nil:
		return h, ""
	case len(seen.heard) > 0 && seen.heard[0] != tlsHandshake:
		return hello{}, ReasonNotTLS
	case errors.Is(err, os.ErrDeadlineExceeded) || seen.slow:
		return hello{}, ReasonSlow
	case len(seen.heard) == 0:
		return hello{}, ReasonNotTLS // it said nothing and left
	}
	return hello{}, ReasonHello
}

// parseHello reads one by the standard library's server.
func parseHello(from *overhear) (h hello, err error) {
	found := false
	server := tls.Server(from, &tls.Config{MinVersion: tls.VersionTLS10, GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		h, found = hello{name: i.ServerName, ech: slices.Contains(i.Extensions, extensionECH)}, true
		return nil, errSeen
	}})
	if err = server.HandshakeContext(context.Background()); found {
		return h, nil
	}
	if err == nil {
		err = errSeen // cannot be: there is no certificate
	}
	return hello{}, err
}

// overhear is a connection that keeps what is read, to a bound, and says nothing.
type overhear struct {
	from  net.Conn
	heard []byte
	slow  bool
}

var errLong = errors.New("the hello is too long")

// Read implements net.Conn.
func (o *overhear) Read(b []byte) (int, error) {
	if len(o.heard) >= maxHello {
		return 0, errLong
	}
	n, err := o.from.Read(b[:min(len(b), maxHello-len(o.heard))])
	o.heard = append(o.heard, b[:n]...)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		o.slow = true
	}
	if n == 0 && err == nil {
		err = io.ErrNoProgress
	}
	return n, err
}

// Write implements net.Conn: nobody hears our alert.
func (o *overhear) Write(b []byte) (int, error) { return len(b), nil }

// Close implements net.Conn.
func (o *overhear) Close() error { return nil }

// LocalAddr implements net.Conn.
func (o *overhear) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr implements net.Conn.
func (o *overhear) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// SetDeadline implements net.Conn; the caller has set one.
func (o *overhear) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (o *overhear) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (o *overhear) SetWriteDeadline(time.Time) error { return nil }
