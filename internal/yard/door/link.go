package door

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

const (
	// vnetHeader is the length of a struct virtio_net_hdr, before each packet.
	vnetHeader = 10
	// ethernetHeader follows it on links that have one.
	ethernetHeader = 14
	// maxPacket is what one packet can have with everything before it.
	maxPacket = vnetHeader + ethernetHeader + 1<<16
	// vnetNeedsChecksum is VIRTIO_NET_HDR_F_NEEDS_CSUM: between the two ends of a link is memory,
	// so that nobody computes or verifies the checksum of a segment.
	vnetNeedsChecksum = 1
)

// link is the far end of one room's uplink.
type link struct {
	door     *Door
	file     *os.File
	raw      syscall.RawConn
	mtu      int
	ethernet []byte // before each packet to the room, after the vnet header

	gone  chan struct{} // closed when serve has returned
	ended sync.Once

	mu    sync.Mutex // of writes by hand; the stack's come together with them anyhow
	tcp   *tcpStack  // made by serve, when it is first needed
	spare []byte
}

func newLink(d *Door, l sallyport.Link) (*link, error) {
	n := &link{door: d, file: l.File, mtu: l.MTU, gone: make(chan struct{})}
	if l.MTU < 576 || l.MTU > 65535 || l.Ethernet != nil && len(l.Ethernet) != ethernetHeader-2 {
		return nil, errors.New("door: not a link of a sandbox")
	}
	if l.Ethernet != nil {
		n.ethernet = binary.BigEndian.AppendUint16(append([]byte{}, l.Ethernet...), unix.ETH_P_IP)
	}
	var err error
	if n.raw, err = l.File.SyscallConn(); err != nil {
		return nil, fmt.Errorf("door: %w", err)
	}
	return n, nil
}

// head is how many bytes stand before an IP packet.
func (n *link) head() int { return vnetHeader + len(n.ethernet) }

// serve takes the room's packets until the link is closed.
func (n *link) serve() {
	buf := make([]byte, maxPacket)
	for {
		size, err := n.file.Read(buf)
		if err != nil {
			if n.door.ctx.Err() == nil && !errors.Is(err, os.ErrClosed) {
				n.door.cfg.Log.Warn("door's link broke", "err", err)
			}
			return
		}
		n.take(buf[:size])
	}
}

// take handles what one read brought.
func (n *link) take(b []byte) {
	if len(b) < n.head() {
		return
	}
	if n.ethernet != nil && binary.BigEndian.Uint16(b[n.head()-2:]) != unix.ETH_P_IP {
		return
	}
	p, ok := parsePacket(b[n.head():])
	if !ok || p.src != roomAddr {
		return // not of the kernel's making
	}
	n.packet(p)
}

// header fills in what stands before a packet whose segment begins at start and has its
// checksum at that offset; 0: the checksum is right already.
func (n *link) header(b []byte, start, checksum int) {
	clear(b[:vnetHeader])
	if checksum != 0 {
		b[0] = vnetNeedsChecksum
		binary.NativeEndian.PutUint16(b[2:], uint16(len(n.ethernet)+start+20)) // about the headers
		binary.NativeEndian.PutUint16(b[6:], uint16(len(n.ethernet)+start))
		binary.NativeEndian.PutUint16(b[8:], uint16(checksum))
	}
	copy(b[vnetHeader:], n.ethernet)
}

// send writes a packet that was made by hand; see header.
func (n *link) send(packet []byte, start, checksum int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.spare = append(n.spare[:0], make([]byte, n.head())...)
	n.header(n.spare, start, checksum)
	n.spare = append(n.spare, packet...)
	_, _ = n.file.Write(n.spare) // one that the room does not get is lost, as on any network
}

// release ends the TCP stack, when nobody reads the link any more. It may be called more
// than once.
func (n *link) release() {
	n.ended.Do(func() {
		if n.tcp != nil {
			n.tcp.close()
		}
	})
}
