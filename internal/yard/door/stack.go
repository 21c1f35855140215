package door

import (
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// tcpStack speaks TCP with one room. It is every address that it is asked for; packet.go
// lets through what is for an address that was given for a name.
type tcpStack struct {
	link  *link
	stack *stack.Stack

	mu       sync.RWMutex
	dispatch stack.NetworkDispatcher
}

const (
	nic = tcpip.NICID(1)
	// maxHandshakes bounds the connections that are being made; further ones are tried
	// again by the room's kernel.
	maxHandshakes = 256
	// Sizes of a connection's buffers. On the way through memory the default is a few
	// packets; the most is what a fast server far away needs.
	bufferDefault = 1 << 20
	bufferMost    = 6 << 20
)

func newTCPStack(n *link) (*tcpStack, error) {
	t := &tcpStack{link: n}
	t.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	// Nothing is lost or reordered between a room and its door: RACK's timers would only cost.
	recovery, timeWait := tcpip.TCPRecovery(0), tcpip.TCPTimeWaitTimeoutOption(0)
	// An honest kernel answers at once: who does not answer for 15 seconds only takes up room.
	retries := tcpip.TCPSynRetriesOption(3)
	for _, option := range []tcpip.SettableTransportProtocolOption{
		&sack, &moderate, &recovery, &timeWait, &retries,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: bufferDefault, Max: bufferMost},
		&tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: bufferDefault, Max: bufferMost},
	} {
		if err := t.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			t.stack.Destroy()
			return nil, fmt.Errorf("set %T: %s", option, err)
		}
	}
	if err := t.stack.CreateNIC(nic, t); err != nil {
		t.stack.Destroy()
		return nil, fmt.Errorf("make an interface: %s", err)
	}
	_ = t.stack.SetPromiscuousMode(nic, true) // fail for an interface that does not exist
	_ = t.stack.SetSpoofing(nic, true)
	t.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	forwarder := tcp.NewForwarder(t.stack, 0, maxHandshakes, func(r *tcp.ForwarderRequest) {
		n.door.guard("connection", func() { t.connect(r) })
	})
	t.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, forwarder.HandlePacket)
	return t, nil
}

// close ends all connections and waits for the stack's goroutines.
func (t *tcpStack) close() { t.stack.Destroy() }

// inject hands a packet of the room to the stack, which keeps a copy.
func (t *tcpStack) inject(p []byte) {
	t.mu.RLock()
	d := t.dispatch
	t.mu.RUnlock()
	if d == nil {
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p)})
	d.DeliverNetworkPacket(ipv4.ProtocolNumber, pkt)
	pkt.DecRef()
}

// connect decides about a connection that the room asks for.
func (t *tcpStack) connect(r *tcp.ForwarderRequest) {
	d, id := t.link.door, r.ID()
	addr, port := netip.AddrFrom4(id.LocalAddress.As4()), int(id.LocalPort)
	f := d.newFlow(addr, port)
	if f == nil {
		r.Complete(true)
		return
	}
	queue := new(waiter.Queue)
	f.mu.Lock()
	f.queue = queue
	f.mu.Unlock()
	ep, err := r.CreateEndpoint(queue)
	if err != nil {
		r.Complete(true)
		f.end()
		return
	}
	r.Complete(false)
	f.serve(newRoomConn(queue, ep))
}

// The link as gVisor wants it.

var _ stack.LinkEndpoint = (*tcpStack)(nil)

// MTU implements stack.LinkEndpoint.
func (t *tcpStack) MTU() uint32 { return uint32(t.link.mtu) }

// SetMTU implements stack.LinkEndpoint.
func (t *tcpStack) SetMTU(uint32) {}

// MaxHeaderLength implements stack.LinkEndpoint: what stands before a packet is written apart.
func (t *tcpStack) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.LinkEndpoint.
func (t *tcpStack) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements stack.LinkEndpoint.
func (t *tcpStack) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.LinkEndpoint.
func (t *tcpStack) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityTXChecksumOffload | stack.CapabilityRXChecksumOffload
}

// Attach implements stack.LinkEndpoint.
func (t *tcpStack) Attach(d stack.NetworkDispatcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dispatch = d
}

// IsAttached implements stack.LinkEndpoint.
func (t *tcpStack) IsAttached() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.dispatch != nil
}

// Wait implements stack.LinkEndpoint.
func (t *tcpStack) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (t *tcpStack) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements stack.LinkEndpoint.
func (t *tcpStack) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.LinkEndpoint.
func (t *tcpStack) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements stack.LinkEndpoint.
func (t *tcpStack) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (t *tcpStack) SetOnCloseAction(func()) {}

// WritePackets implements stack.LinkEndpoint: it writes packets to the room.
func (t *tcpStack) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	var head [vnetHeader + ethernetHeader]byte
	n := t.link
	var parts [8][]byte
	for i, p := range packets.AsSlice() {
		n.header(head[:n.head()], len(p.NetworkHeader().Slice()), header.TCPChecksumOffset)
		iov := append(parts[:0], head[:n.head()])
		iov = append(iov, p.AsSlices()...)
		if err := n.writev(iov); err != nil {
			return i, &tcpip.ErrAborted{}
		}
	}
	return packets.Len(), nil
}

// writev writes one packet in parts.
func (n *link) writev(parts [][]byte) error {
	var err error
	closed := n.raw.Write(func(fd uintptr) bool {
		_, err = unix.Writev(int(fd), parts)
		return err != unix.EAGAIN
	})
	if closed != nil {
		return closed
	}
	return err
}
