package sallyporttest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport/internal/yard/escape"
)

// probeMark is argv[1] of the test binary when it runs inside a room.
const probeMark = "sallyporttest:probe"

// SandboxProbe is the part of the suite that runs inside a room, as the job. A
// package that runs Sandbox calls it in TestMain, before anything else, and exits with
// the code when it was handled.
func SandboxProbe(args []string) (handled bool, exit int) {
	if handled, exit := escape.Probe(args); handled {
		return true, exit
	}
	if len(args) < 3 || args[1] != probeMark {
		return false, 0
	}
	switch args[2] {
	case "read":
		return true, probeRead(args[3])
	case "write":
		return true, probeWrite(args[3])
	case "whoami":
		groups, err := os.Getgroups()
		fmt.Println(os.Getuid(), os.Getgid(), groups)
		return true, failed(err)
	case "connect":
		return true, probeConnect(args[3:])
	case "reroute":
		return true, probeReroute()
	case "eat":
		return true, probeEat(args[3])
	case "forks":
		return true, probeForks()
	case "serve":
		return true, probeServe(args[3])
	case "get":
		return true, probeGet(args[3:])
	case "put":
		return true, probePut(args[3], args[4])
	}
	return true, 2
}

func errnoOf(err error) syscall.Errno {
	for err != nil {
		if e, ok := err.(syscall.Errno); ok {
			return e
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			break
		}
		err = u.Unwrap()
	}
	return 0
}

// probeConnect prints the errno of connecting to each address.
func probeConnect(addrs []string) int {
	for _, a := range addrs {
		network := "tcp"
		if len(a) > 0 && (a[0] == '@' || a[0] == '/') {
			network = "unix"
		}
		c, err := net.DialTimeout(network, a, 2*time.Second)
		if err == nil {
			c.Close()
			fmt.Println(a, "connected")
			continue
		}
		fmt.Println(a, unix.ErrnoName(errnoOf(err)))
	}
	return 0
}

// probeEat touches so many bytes of memory.
func probeEat(size string) int {
	n, err := strconv.Atoi(size)
	if err != nil {
		return 2
	}
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return 2
	}
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	return 0
}

// probeForks starts children until it may not, prints how many there were, and
// ends them.
func probeForks() int {
	const most = 2000 // above any limit the suite sets
	var children []*exec.Cmd
	var last error
	for len(children) < most {
		c := exec.Command("/bin/sleep", "60")
		if last = c.Start(); last != nil {
			break
		}
		children = append(children, c)
	}
	for _, c := range children {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	fmt.Println(len(children), unix.ErrnoName(errnoOf(last)))
	return 0
}

// probeServe answers HTTP on a port of the room's loopback.
func probeServe(port string) int {
	ln, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("listening")
	return map[bool]int{true: 0, false: 1}[http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello from the room ", r.URL.Path)
	})) == nil]
}

// probeGet prints the body at each URL, a line each.
func probeGet(urls []string) int {
	for _, u := range urls {
		res, err := http.Get(u)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		_, err = io.Copy(os.Stdout, res.Body)
		res.Body.Close()
		if err != nil {
			return 1
		}
		fmt.Println()
	}
	return 0
}

// probePut sends so many bytes and prints the answer.
func probePut(url, size string) int {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return 2
	}
	res, err := http.Post(url, "application/octet-stream", io.LimitReader(zeros{}, n))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer res.Body.Close()
	if _, err := io.Copy(os.Stdout, res.Body); err != nil {
		return 1
	}
	return 0
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func failed(err error) int {
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func probeRead(path string) int {
	b, err := os.ReadFile(path)
	_, _ = os.Stdout.Write(b)
	return failed(err)
}

func probeWrite(path string) int { return failed(os.WriteFile(path, []byte("x"), 0o644)) }
