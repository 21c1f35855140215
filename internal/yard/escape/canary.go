package escape

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// told is what the attacker is told: more than a job can know.
type told struct {
	Only     []string `json:"only,omitempty"`  // attempts to make; none: all
	Leave    bool     `json:"leave,omitempty"` // leave something for the next job
	Word     string   `json:"word"`            // in everything that is a canary
	File     string   `json:"file"`
	Dir      string   `json:"dir"` // everybody may write
	PID      int      `json:"pid"`
	TCP      string   `json:"tcp"`
	UDP      string   `json:"udp"`
	Abstract string   `json:"abstract"`
	Socket   string   `json:"socket"`
	SHM      int      `json:"shm"` // key of a segment of System V shared memory
}

// canaries stand on the host while a room is attacked.
type canaries struct {
	told     told
	root     string
	process  *exec.Cmd
	alive    io.Closer
	tcp      net.Listener
	udp      *net.UDPConn
	abstract net.Listener
	socket   net.Listener
	shm      int
	hostname string
}

// plant places them. remove must be called.
func (d *drill) plant() (_ *canaries, err error) {
	var word [12]byte
	if _, err := rand.Read(word[:]); err != nil {
		return nil, err
	}
	c := &canaries{shm: -1}
	c.told.Word = "canary-" + hex.EncodeToString(word[:])
	// The path of a unix socket is short, that of Dir may not be.
	if c.root, err = os.MkdirTemp("", "canary-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.remove()
		}
	}()
	c.told.File, c.told.Dir, c.told.Socket = filepath.Join(d.Dir, c.told.Word), filepath.Join(d.Dir, c.told.Word+".d"), filepath.Join(c.root, "s")
	if err := errors.Join(
		os.WriteFile(c.told.File, []byte(c.told.Word), 0o666), os.Chmod(c.told.File, 0o666),
		os.Mkdir(c.told.Dir, 0o777), os.Chmod(c.told.Dir, 0o777|os.ModeSticky),
	); err != nil {
		return nil, err
	}
	c.process = exec.Command(d.exe, mark, "wait", c.told.Word, "host")
	c.process.Env = []string{}
	if c.alive, err = c.process.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.process.Start(); err != nil {
		return nil, err
	}
	c.told.PID = c.process.Process.Pid
	if c.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	if c.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		return nil, err
	}
	c.told.TCP, c.told.UDP, c.told.Abstract = c.tcp.Addr().String(), c.udp.LocalAddr().String(), "@"+c.told.Word
	if c.abstract, err = net.Listen("unix", c.told.Abstract); err != nil {
		return nil, err
	}
	if c.socket, err = net.Listen("unix", c.told.Socket); err != nil {
		return nil, err
	}
	if err := os.Chmod(c.told.Socket, 0o777); err != nil {
		return nil, err
	}
	c.told.SHM = 0x5A11<<16 | int(word[0])<<8 | int(word[1])
	if c.shm, err = unix.SysvShmGet(c.told.SHM, 4096, unix.IPC_CREAT|unix.IPC_EXCL|0o666); err != nil {
		return nil, fmt.Errorf("shared memory: %w", err)
	}
	c.hostname, err = os.Hostname()
	return c, err
}

func (c *canaries) remove() {
	if c.process != nil && c.process.Process != nil {
		_ = c.process.Process.Kill()
		_ = c.process.Wait()
	}
	for _, l := range []net.Listener{c.tcp, c.abstract, c.socket} {
		if l != nil {
			_ = l.Close()
		}
	}
	if c.udp != nil {
		_ = c.udp.Close()
	}
	if c.shm >= 0 {
		_, _ = unix.SysvShmCtl(c.shm, unix.IPC_RMID, nil)
	}
	for _, p := range []string{c.told.File, c.told.Dir, c.root} {
		if p != "" {
			_ = os.RemoveAll(p)
		}
	}
}

// untouched is the outcome of a canary.
const untouched = "untouched"

// look tells which canaries were touched, as the host sees them.
func (c *canaries) look() []Result {
	looks := []struct {
		name string
		look func() string
	}{
		{"file", func() string {
			b, err := os.ReadFile(c.told.File)
			if err != nil || string(b) != c.told.Word {
				return "changed"
			}
			return untouched
		}},
		{"directory", func() string {
			if entries, err := os.ReadDir(c.told.Dir); err != nil || len(entries) > 0 {
				return "written to"
			}
			return untouched
		}},
		{"process", func() string {
			if syscall.Kill(c.told.PID, 0) != nil {
				return "killed"
			}
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.told.PID))
			if err != nil || bytes.Contains(b, []byte("\nState:\tT")) || bytes.Contains(b, []byte("\nState:\tt")) || bytes.Contains(b, []byte("\nState:\tZ")) {
				return "stopped or dead"
			}
			return untouched
		}},
		{"TCP port", func() string { return visited(c.tcp) }},
		{"abstract socket", func() string { return visited(c.abstract) }},
		{"unix socket", func() string { return visited(c.socket) }},
		{"UDP port", c.datagrams},
		{"shared memory", func() string {
			var ds unix.SysvShmDesc
			if _, err := unix.SysvShmCtl(c.shm, unix.IPC_STAT, &ds); err != nil || ds.Atime != 0 {
				return "attached"
			}
			return untouched
		}},
		{"host name", func() string {
			if now, err := os.Hostname(); err != nil || now != c.hostname {
				return "changed"
			}
			return untouched
		}},
	}
	results := make([]Result, 0, len(looks))
	for _, l := range looks {
		results = append(results, verdict(Result{Group: "canaries", Name: "the host's " + l.name, Outcome: l.look()}, untouched))
	}
	return results
}

// visited tells whether somebody has connected: connections come in order, so all before
// one of our own is somebody's.
func visited(l net.Listener) string {
	own, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		return err.Error()
	}
	defer own.Close()
	if _, err := own.Write([]byte("o")); err != nil {
		return err.Error()
	}
	if u, ok := own.(interface{ CloseWrite() error }); ok {
		_ = u.CloseWrite()
	}
	first, err := l.Accept()
	if err != nil {
		return err.Error()
	}
	defer first.Close()
	if got, err := io.ReadAll(io.LimitReader(first, 2)); err != nil || string(got) != "o" {
		return "connected to"
	}
	return untouched
}

func (c *canaries) datagrams() string {
	own, err := net.Dial("udp", c.told.UDP)
	if err != nil {
		return err.Error()
	}
	defer own.Close()
	if _, err := own.Write([]byte("o")); err != nil {
		return err.Error()
	}
	buf := make([]byte, 64)
	n, err := c.udp.Read(buf)
	if err != nil || string(buf[:n]) != "o" {
		return "sent to"
	}
	return untouched
}
