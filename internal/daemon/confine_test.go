package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	if err := Confined(os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if len(os.Args) == 3 && os.Args[1] == "look-around" {
		lookAround(os.Args[2])
		return
	}
	os.Exit(m.Run())
}

// lookAround prints what a process of the yard can reach.
func lookAround(data string) {
	can := func(what string, err error) { fmt.Printf("%s: %t\n", what, err == nil) }
	read := func(path string) error { _, err := os.ReadFile(path); return err }
	dial := func(name string) error {
		c, err := net.Dial("unix", filepath.Join(data, name))
		if err == nil {
			err = c.Close()
		}
		return err
	}
	can("key", read(filepath.Join(data, "keys", "ca.pem")))
	can("store", read(filepath.Join(data, "sallyport.db")))
	can("write", os.WriteFile(filepath.Join(data, "new"), nil, 0o600))
	can("own read", read(filepath.Join(data, "runner", "mine")))
	can("own write", os.WriteFile(filepath.Join(data, "runner", "more"), nil, 0o600))
	can("control", dial("run/control.sock"))
	can("yard", dial("run/yard.sock"))
}

// A process of the yard has its own directory and socket and nothing else of
// the installation, although it runs as the same user.
func TestConfined(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("without root there are no mount namespaces")
	}
	data, err := os.MkdirTemp("", "conf") // short: the path of a socket has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	for _, file := range []string{"keys/ca.pem", "sallyport.db", "runner/mine"} {
		path := filepath.Join(data, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(data, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"control.sock", "yard.sock"} {
		l, err := net.Listen("unix", filepath.Join(data, "run", name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	look := func(confine bool) string {
		cmd := exec.Command(exe, "look-around", data)
		if confine {
			confined(cmd, data, "runner", "run/yard.sock")
		}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) {
			t.Skip("this root may not make mount namespaces")
		}
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	want := "key: false\nstore: false\nwrite: false\nown read: true\nown write: true\ncontrol: false\nyard: true\n"
	if got := look(true); got != want {
		t.Errorf("confined, it can\n%swant\n%s", got, want)
	}
	// What it cannot reach is there for others: the mounts were its own.
	if _, err := os.Stat(filepath.Join(data, "keys", "ca.pem")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(data, "runner", "more")); err != nil {
		t.Error(err)
	}
	if got := look(false); !strings.HasPrefix(got, "key: true\nstore: true\n") {
		t.Errorf("not confined, it can\n%s", got)
	}
}

// Started by anybody else, it covers nothing.
func TestConfinedNeedsMountsOfItsOwn(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(exe, markConfined, data, "x", "look-around", data).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("no mounts of its own")) {
		t.Errorf("got %v, %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(data, "x")); errors.Is(err, fs.ErrNotExist) {
		t.Error("the directory is covered for everybody")
	}
}
