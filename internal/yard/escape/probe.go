package escape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// mark is argv[1] of our own binary when it is the attacker in a room.
const mark = "sallyport:escape"

// Probe is the part that runs in a room, as the job. args are os.Args; the process must
// exit with the code when it was handled. It is harmless to call anywhere.
func Probe(args []string) (handled bool, exit int) {
	if len(args) < 3 || args[1] != mark {
		return false, 0
	}
	rest := args[3:]
	arg := func() string {
		if len(rest) == 0 {
			return ""
		}
		a := rest[0]
		rest = rest[1:]
		return a
	}
	var err error
	switch args[2] {
	case "try":
		err = try(arg())
	case "remains":
		fmt.Println(remains(arg()))
	case "eat":
		err = eat(arg())
	case "fork":
		err = forkMany(arg())
	case "fill":
		err = fill(arg(), arg())
	case "files":
		err = fillFiles(arg())
	case "crash":
		err = crash()
	case "segfault":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		select {}
	case "deep":
		err = deep(arg())
	case "wait":
		_, err = io.Copy(io.Discard, os.Stdin)
	default:
		return true, 2
	}
	if err != nil {
		fmt.Println(err)
		return true, 1
	}
	return true, 0
}

// try makes every attempt and prints what came of each.
func try(words string) error {
	var t told
	if err := json.Unmarshal([]byte(words), &t); err != nil {
		return err
	}
	if t.Leave {
		leave(t.Word)
	}
	if err := os.MkdirAll(mountPoint, 0o755); err != nil {
		return err
	}
	enc := json.NewEncoder(os.Stdout)
	for _, a := range list() {
		if len(t.Only) > 0 && !slices.Contains(t.Only, a.name) {
			continue
		}
		got := make(chan string)
		go func() {
			// Never unlocked: what the attempt does to its thread (namespaces, capabilities)
			// ends with it and helps no later attempt.
			runtime.LockOSThread()
			_ = unix.Unshare(unix.CLONE_FS) // a room may refuse it; it refuses chroot too
			got <- a.do(&t)
		}()
		if err := enc.Encode(outcome{Name: a.name, Got: <-got}); err != nil {
			return err
		}
	}
	return nil
}

// Attempts make files in scratch and mount over mountPoint.
const (
	scratch    = "/tmp/escape"
	mountPoint = scratch + "/mnt"
)

// remainPlaces are where a job can leave something.
var remainPlaces = [...]string{"/", "/tmp", "/var/tmp", "/root", "/home", "/etc", "/usr/bin", "/usr/local/bin", "/dev/shm", "/run", "/srv"}

// leave leaves files and a process for the next job to find.
func leave(word string) {
	for _, dir := range remainPlaces {
		_ = os.WriteFile(filepath.Join(dir, word), []byte(word), 0o666) // not all can be written
	}
	cmd := exec.Command(probePath, mark, "wait", word)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if in, err := cmd.StdinPipe(); err == nil && cmd.Start() == nil {
		_ = in // open until we end, and then it ends too, unless we are not in a room
	}
}

// remains looks for what leave left.
func remains(word string) string {
	for _, dir := range remainPlaces {
		if _, err := os.Lstat(filepath.Join(dir, word)); err == nil {
			return filepath.Join(dir, word)
		}
	}
	if pid := findProcess(word); pid != "" {
		return "process " + pid
	}
	return "nothing"
}

// findProcess looks for a word in what /proc shows of other processes.
func findProcess(word string) string {
	procs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well formed
	own := fmt.Sprintf("/proc/%d", os.Getpid())
	for _, dir := range procs {
		if dir == own {
			continue
		}
		for _, name := range []string{"cmdline", "environ"} {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil && bytes.Contains(b, []byte(word)) {
				return filepath.Base(dir)
			}
		}
	}
	return ""
}

// named is the name of the errno in err, "done" for nil.
func named(err error) string {
	if err == nil {
		return done
	}
	var e syscall.Errno
	if errors.As(err, &e) {
		if name := unix.ErrnoName(e); name != "" {
			return name
		}
	}
	return err.Error()
}

// eat touches so many bytes of memory.
func eat(size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	fmt.Println(done)
	return nil
}

// forkMany starts processes until it may not, or there are most; prints how many and
// why no more, and ends them.
func forkMany(most string) error {
	n, err := strconv.Atoi(most)
	if err != nil {
		return err
	}
	var children []*exec.Cmd
	var last error
	for len(children) < n {
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
	fmt.Println(len(children), named(last))
	return nil
}

// fill writes to a file until it may not, or so many bytes are there.
func fill(path, size string) error {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer f.Close()
	block := bytes.Repeat([]byte{1}, 1<<20)
	for range n >> 20 {
		if _, err = f.Write(block); err != nil {
			break
		}
	}
	fmt.Println(named(errors.Join(err)))
	return nil
}

// fillFiles makes a directory of empty files until it may not.
func fillFiles(most string) error {
	n, err := strconv.Atoi(most)
	if err != nil {
		return err
	}
	dir := "/root/many"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i := range n {
		var f *os.File
		if f, err = os.Create(filepath.Join(dir, strconv.Itoa(i))); err != nil {
			break
		}
		f.Close()
	}
	fmt.Println(named(err))
	return nil
}

// crash lets a child die of a signal that dumps core.
func crash() error {
	if err := os.Chdir("/tmp"); err != nil {
		return err
	}
	cmd := exec.Command("/bin/sh", "-c", "kill -SEGV $$")
	err := cmd.Run()
	var end *exec.ExitError
	if !errors.As(err, &end) {
		return fmt.Errorf("the child did not crash: %w", err)
	}
	ws, ok := end.Sys().(syscall.WaitStatus)
	cores, _ := filepath.Glob("/tmp/core*") // the pattern is well formed
	switch {
	case !ok || !ws.Signaled():
		return fmt.Errorf("the child did not crash: %v", end)
	case ws.CoreDump() || len(cores) > 0:
		fmt.Println("core dumped")
	default:
		fmt.Println("no core")
	}
	return nil
}

// deep makes a tower of directories, each in the one before.
func deep(dir string) error {
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for i := range 4096 {
		name := strings.Repeat("d", 1+i%8)
		if err := unix.Mkdirat(at, name, 0o700); err != nil {
			return err
		}
		next, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(at)
		if err != nil {
			return err
		}
		at = next
	}
	fmt.Println(done)
	return unix.Close(at)
}
