package door

import (
	"encoding/binary"
	"io"
	"net"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	sallyport "github.com/sallyport-ci/sallyport"
)

const (
	// maxQuestion bounds a question, over UDP and TCP: a name and the options of EDNS.
	maxQuestion = 4 << 10
	// nameTTL is in seconds. An address means its name as long as the door is open.
	nameTTL = 300
)

// resolve answers a DNS message, nil when there is nothing to say. It asks nobody: what a
// job puts into its questions stays here.
func (d *Door) resolve(message []byte) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(message)
	if err != nil || head.Response || len(message) > maxQuestion {
		d.refused("dns", "", "", 0, ReasonQuestion)
		return nil
	}
	answer := func(code dnsmessage.RCode, q *dnsmessage.Question, body dnsmessage.ResourceBody) []byte {
		m := dnsmessage.Message{Header: dnsmessage.Header{
			ID: head.ID, Response: true, OpCode: head.OpCode, RecursionDesired: head.RecursionDesired, RecursionAvailable: true, RCode: code,
		}}
		if q != nil {
			m.Questions = []dnsmessage.Question{*q}
			if body != nil {
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: nameTTL}, Body: body}}
			}
		}
		out, err := m.Pack()
		if err != nil {
			return nil // a name that was parsed can be packed
		}
		return out
	}
	if head.OpCode != 0 {
		d.refused("dns", "", "", 0, ReasonQuestion)
		return answer(dnsmessage.RCodeNotImplemented, nil, nil)
	}
	q, err := p.Question()
	if err == nil {
		if _, more := p.Question(); more != dnsmessage.ErrSectionDone {
			err = dnsmessage.ErrNotStarted
		}
	}
	if err != nil {
		d.refused("dns", "", "", 0, ReasonQuestion)
		return answer(dnsmessage.RCodeFormatError, nil, nil)
	}
	if !d.budget.ask() {
		d.refused("dns", "", "", 0, ReasonAsked)
		return answer(dnsmessage.RCodeRefused, &q, nil)
	}
	host, ok := canonical(q.Name.String())
	if !ok || q.Class != dnsmessage.ClassINET {
		d.refused("dns", clip(q.Name.String()), "", 0, ReasonQuestion)
		return answer(dnsmessage.RCodeNameError, &q, nil)
	}
	may := d.mayAsk(host)
	if !may.open() {
		d.refused("dns", host, "", 0, may.Reason)
		return answer(dnsmessage.RCodeNameError, &q, nil)
	}
	switch q.Type {
	case dnsmessage.TypeA:
	case dnsmessage.TypeAAAA, dnsmessage.TypeHTTPS:
		return answer(dnsmessage.RCodeSuccess, &q, nil) // every client asks for these, and goes on without
	default:
		d.refused("dns", host, "", 0, ReasonType)
		return answer(dnsmessage.RCodeSuccess, &q, nil)
	}
	addr, ok := d.names.of(host, d.cfg.Limits.Names)
	if !ok {
		d.refused("dns", host, "", 0, ReasonNames)
		return answer(dnsmessage.RCodeServerFailure, &q, nil)
	}
	d.note(sallyport.Flow{Protocol: "dns", Host: host, Decision: may.Decision, Reason: may.Reason, Rule: may.Rule})
	return answer(dnsmessage.RCodeSuccess, &q, &dnsmessage.AResource{A: addr.As4()})
}

// mayAsk decides about a question for a name.
func (d *Door) mayAsk(host string) Answer {
	may := d.cfg.Rules.Name(host)
	if may.Decision != sallyport.EgressAllowed && d.cfg.Intercept(host) != nil {
		return Answer{Decision: sallyport.EgressAllowed}
	}
	return may
}

// resolveStream answers questions over TCP until the connection ends.
func (d *Door) resolveStream(c net.Conn) {
	defer c.Close()
	for {
		if c.SetReadDeadline(time.Now().Add(d.cfg.Limits.Hello)) != nil {
			return
		}
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(size[:]))
		if n > maxQuestion {
			d.refused("dns", "", "", 0, ReasonQuestion)
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(c, message); err != nil {
			return
		}
		out := d.resolve(message)
		if out == nil || c.SetWriteDeadline(time.Now().Add(d.cfg.Limits.Hello)) != nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
			return
		}
	}
}

// clip makes a name that is none fit for a record: printable, and not long.
func clip(s string) string {
	b := []byte(s[:min(len(s), maxHost)])
	for i, c := range b {
		if c <= ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
