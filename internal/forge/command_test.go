package forge

import (
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// TestStartedOnAThreadThatEnds starts a process from a thread that then ends, as one does that
// was locked to a goroutine. The control shows what happens to a process that is merely started there.
func TestStartedOnAThreadThatEnds(t *testing.T) {
	for _, held := range []bool{true, false} {
		cmd := exec.Command("cat")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		started := make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
			if held {
				started <- startHeld(cmd, ended)
			} else {
				started <- cmd.Start()
			}
		}()
		if err := <-started; err != nil {
			t.Fatal(err)
		}
		if !held { // it waits for input that never comes, and ends all the same
			if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
				t.Errorf("the control ended with %v", err)
			}
			continue
		}
		for range 100 { // the thread that was locked has gone by now, or goes meanwhile
			runtime.Gosched()
			if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
				t.Fatalf("the process ended with the thread: %v", err)
			}
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process ended with %v", err)
		}
		close(ended)
	}
}
