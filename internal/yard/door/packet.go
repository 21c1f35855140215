package door

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// packet is an IPv4 packet of the room, as far as it was looked at.
type packet struct {
	whole    []byte // of its own length
	header   int    // length of the IP header
	src, dst netip.Addr
	protocol byte
	fragment bool
}

// payload is what follows the IP header.
func (p packet) payload() []byte { return p.whole[p.header:] }

// parsePacket checks the lengths and refuses what is not a whole IPv4 packet.
func parsePacket(b []byte) (packet, bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return packet{}, false
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || total < header || total > len(b) {
		return packet{}, false
	}
	return packet{
		whole: b[:total], header: header, protocol: b[9],
		src: netip.AddrFrom4([4]byte(b[12:16])), dst: netip.AddrFrom4([4]byte(b[16:20])),
		fragment: binary.BigEndian.Uint16(b[6:])&0x3fff != 0, // more to come, or an offset
	}, true
}

// packet decides about a packet: the stack gets segments to addresses that were given
// for a name, questions for names are answered, all else is refused.
func (n *link) packet(p packet) {
	d := n.door
	body := p.payload()
	switch {
	case p.fragment:
		// The interface takes packets of 64 KiB: nobody needs to split them.
		d.refused("ip", "", p.dst.String(), 0, ReasonProtocol)
	case p.protocol == unix.IPPROTO_TCP:
		if len(body) >= 20 {
			n.segment(p)
		}
	case p.protocol == unix.IPPROTO_UDP:
		if len(body) < 8 {
			return
		}
		port := int(binary.BigEndian.Uint16(body[2:]))
		if p.dst == resolverAddr && port == 53 {
			if size := int(binary.BigEndian.Uint16(body[4:])); size >= 8 && size <= len(body) {
				n.answerQuestion(p, body[:size])
			}
			return
		}
		d.refused("udp", d.names.host(p.dst), p.dst.String(), port, ReasonProtocol)
		n.unreachable(p, 3) // port
	case p.protocol == unix.IPPROTO_ICMP:
		if len(body) > 0 && body[0] == 8 { // an echo; else an answer of the kernel
			d.refused("icmp", d.names.host(p.dst), p.dst.String(), 0, ReasonProtocol)
			n.unreachable(p, 10) // host, administratively
		}
	case p.protocol == unix.IPPROTO_IGMP: // the kernel's own
	default:
		d.refused("ip", "", p.dst.String()+" protocol "+strconv.Itoa(int(p.protocol)), 0, ReasonProtocol)
		n.unreachable(p, 10)
	}
}

// segment handles one of TCP.
func (n *link) segment(p packet) {
	seg := p.payload()
	port := int(binary.BigEndian.Uint16(seg[2:]))
	if n.door.names.host(p.dst) == "" && (p.dst != resolverAddr || port != 53) {
		if seg[13]&tcpRST != 0 {
			return
		}
		if seg[13]&tcpSYN != 0 {
			n.door.refused("tcp", "", p.dst.String(), port, ReasonNoName)
		}
		n.reset(p)
		return
	}
	if n.tcp == nil {
		s, err := newTCPStack(n)
		if err != nil {
			n.door.cfg.Log.Error("door has no TCP", "err", err)
			n.reset(p)
			return
		}
		n.tcp = s
	}
	n.tcp.inject(p.whole)
}

// Flags of TCP.
const (
	tcpFIN = 1
	tcpSYN = 2
	tcpRST = 4
	tcpACK = 16
)

// reset refuses a segment as a closed port does (RFC 9293, section 3.10.7.1).
func (n *link) reset(p packet) {
	seg := p.payload()
	out := n.reply(p, unix.IPPROTO_TCP, 20)
	copy(out[20:22], seg[2:4])
	copy(out[22:24], seg[0:2])
	if seg[13]&tcpACK != 0 {
		copy(out[24:28], seg[8:12]) // its acknowledgement is our sequence
		out[33] = tcpRST
	} else {
		next := binary.BigEndian.Uint32(seg[4:])
		for _, flag := range []byte{tcpSYN, tcpFIN} {
			if seg[13]&flag != 0 {
				next++
			}
		}
		if offset := int(seg[12]>>4) * 4; offset >= 20 && offset <= len(seg) {
			next += uint32(len(seg) - offset)
		}
		binary.BigEndian.PutUint32(out[28:], next)
		out[33] = tcpRST | tcpACK
	}
	out[32] = 5 << 4
	n.send(out, 20, 16)
}

// answerQuestion answers a datagram to the resolver.
func (n *link) answerQuestion(p packet, datagram []byte) {
	answer := n.door.resolve(datagram[8:])
	if answer == nil {
		return
	}
	out := n.reply(p, unix.IPPROTO_UDP, 8+len(answer))
	copy(out[20:22], datagram[2:4])
	copy(out[22:24], datagram[0:2])
	binary.BigEndian.PutUint16(out[24:], uint16(8+len(answer)))
	copy(out[28:], answer) // a checksum of zero is none
	n.send(out, 20, 0)
}

// unreachable says why a packet went nowhere (RFC 792). Nothing is said of what was
// for many.
func (n *link) unreachable(p packet, code byte) {
	if p.dst.IsMulticast() || p.dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return
	}
	quote := p.whole[:min(len(p.whole), p.header+8)]
	out := n.reply(p, unix.IPPROTO_ICMP, 8+len(quote))
	out[20], out[21] = 3, code
	copy(out[28:], quote)
	binary.BigEndian.PutUint16(out[22:], checksum(out[20:]))
	n.send(out, 20, 0)
}

// reply is the packet that answers p, with room for size bytes after its header.
func (n *link) reply(p packet, protocol byte, size int) []byte {
	out := make([]byte, 20+size)
	out[0], out[8], out[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	src, dst := p.dst.As4(), p.src.As4()
	copy(out[12:], src[:])
	copy(out[16:], dst[:])
	binary.BigEndian.PutUint16(out[10:], checksum(out[:20]))
	return out
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
