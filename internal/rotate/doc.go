// Package rotate changes credentials at their source: sallyport.Rotator for PostgreSQL and, by
// requests that an operator declares, for whatever speaks HTTP.
//
// It connects to what a rule names, as the control plane, and keeps nothing. The engine calls it,
// one step at a time, and decides what follows.
package rotate

import (
	"bytes"
	"encoding/json"
	"net"

	"github.com/sallyport-ci/sallyport"
)

// decode reads a rule's configuration; unknown keys are mistakes.
func decode(raw json.RawMessage, to any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "the configuration of the rotation: %v", err).WithHint("see docs/guide/secrets.md")
	}
	return nil
}

// private reports whether a host is an address of this host or a private network, where
// a connection without TLS may be spoken.
func private(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && (ip.IsLoopback() || ip.IsPrivate())
}
