package sandbox

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/pidone"
)

// uplink is the part of a sallyport.Uplink that a keeper needs.
type uplink struct{ Addr, Resolver netip.Addr }

const (
	uplinkName = "eth0"
	// farName is the other end of a veth pair. It stays in the room's namespace, with
	// neither address nor route.
	farName = "far0"
	// uplinkMTU is what leaves room for any header in a packet of 64 KiB. Nothing is
	// ever sent on a wire: the larger the packet, the fewer of them.
	uplinkMTU = 65520
	// linkBuffer is how many bytes may wait on a packet socket in each direction: the
	// whole window of a fast connection, or the kernel drops what the room sent.
	linkBuffer = 8 << 20
)

// raise makes the interface in the calling thread's network namespace and returns its
// far end: a TUN device, or where /dev/net/tun may not be opened, as is usual for
// an ordinary user, a packet socket on the other end of a veth pair.
func (u uplink) raise() (*sallyport.Link, error) {
	link, tunErr := openTUN()
	if tunErr != nil {
		var err error
		if link, err = openVeth(); err != nil {
			return nil, errors.Join(tunErr, err)
		}
	}
	if err := u.configure(); err != nil {
		link.File.Close()
		return nil, err
	}
	return link, nil
}

// openTUN makes a device whose other side is a file.
func openTUN() (*sallyport.Link, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	fail := func(doing string, err error) (*sallyport.Link, error) {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	ifr, err := unix.NewIfreq(uplinkName)
	if err != nil {
		return fail("name a TUN device", err)
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fail("make a TUN device", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM); err != nil {
		return fail("leave checksums out", err)
	}
	return &sallyport.Link{File: os.NewFile(uintptr(fd), "uplink"), MTU: uplinkMTU}, nil
}

// openVeth makes a pair of interfaces and a packet socket on the far one.
func openVeth() (*sallyport.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = uplinkName, uplinkMTU
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: farName, PeerMTU: uplinkMTU}); err != nil {
		return nil, fmt.Errorf("make a veth pair: %w", err)
	}
	near, err := netlink.LinkByName(uplinkName)
	if err != nil {
		return nil, fmt.Errorf("find the uplink: %w", err)
	}
	far, err := netlink.LinkByName(farName)
	if err != nil {
		return nil, fmt.Errorf("find the uplink's far end: %w", err)
	}
	// Without ARP the kernel addresses frames to the sender itself. At the far end they
	// are a stranger's, which its IP leaves alone and a packet socket sees.
	if err := errors.Join(netlink.LinkSetARPOff(near), netlink.LinkSetARPOff(far)); err != nil {
		return nil, fmt.Errorf("switch off ARP: %w", err)
	}
	withoutIPv6(far)
	if err := netlink.LinkSetUp(far); err != nil {
		return nil, fmt.Errorf("raise the uplink's far end: %w", err)
	}
	const ipv4 = unix.ETH_P_IP>>8 | unix.ETH_P_IP&0xff<<8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	for _, buffer := range [][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, buffer[0], linkBuffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, buffer[1], linkBuffer) // the kernel takes its own maximum
		}
	}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ipv4, Ifindex: far.Attrs().Index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up a packet socket: %w", err)
	}
	return &sallyport.Link{
		File: os.NewFile(uintptr(fd), "uplink"), MTU: uplinkMTU,
		Ethernet: slices.Concat(near.Attrs().HardwareAddr, far.Attrs().HardwareAddr),
	}, nil
}

// configure gives the interface its address and the room its only route.
func (u uplink) configure() error {
	link, err := netlink.LinkByName(uplinkName)
	if err != nil {
		return fmt.Errorf("find the uplink: %w", err)
	}
	withoutIPv6(link)
	if err := netlink.LinkSetMTU(link, uplinkMTU); err != nil {
		return fmt.Errorf("set the uplink's MTU: %w", err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: u.Addr.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("give the uplink its address: %w", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("raise the uplink: %w", err)
	}
	route := &netlink.Route{
		LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK,
		Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
	}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("route the room's packets: %w", err)
	}
	return nil
}

// withoutIPv6 keeps the kernel from giving an interface an address of IPv6. Without one,
// and without a route, IPv6 is unreachable. It fails only where the kernel has no IPv6.
func withoutIPv6(link netlink.Link) { _ = netlink.LinkSetIP6AddrGenMode(link, nl6AddrGenNone) }

// nl6AddrGenNone is IN6_ADDR_GEN_MODE_NONE.
const nl6AddrGenNone = 1

// sendLink hands a link out of a keeper process: one byte, and the addresses of an
// Ethernet frame if there are any, with the file.
func sendLink(socket int, link *sallyport.Link) error {
	defer link.File.Close()
	unix.CloseOnExec(socket)
	message := append([]byte{byte(len(link.Ethernet))}, link.Ethernet...)
	return unix.Sendmsg(socket, message, unix.UnixRights(int(link.File.Fd())), nil, 0)
}

// receiveLink takes it, or returns nil when the keeper ended without.
func receiveLink(c *net.UnixConn) *sallyport.Link {
	if c.SetReadDeadline(time.Now().Add(startTimeout)) != nil {
		return nil
	}
	message := make([]byte, 1+12)
	n, files, err := readWithFiles(c, message)
	if err != nil || len(files) != 1 || n != 1+int(message[0]) || n != 1 && n != 1+12 {
		pidone.CloseAll(files)
		return nil
	}
	return &sallyport.Link{File: files[0], MTU: uplinkMTU, Ethernet: message[1:n:n]}
}
