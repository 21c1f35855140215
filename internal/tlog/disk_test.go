package tlog

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// TestFullDisk fills the disk of a log: Append refuses, nothing that was
// acknowledged is lost, and the log goes on when there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", disk).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a small file system: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", disk).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	s := openSignatures(t, filepath.Join(disk, "sig"), newKey(t))
	entry := func(i int) []byte { return append(fmt.Appendf(nil, "%d ", i), make([]byte, 8<<10)...) }
	var acknowledged []int
	for i := range 200 {
		_, _, _, err := s.Append(t.Context(), entry(i))
		if err == nil {
			acknowledged = append(acknowledged, i)
			continue
		}
		if sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
			t.Fatalf("full disk: %v", err)
		}
		break
	}
	if n := len(acknowledged); n == 0 || n == 200 {
		t.Fatalf("%d entries went onto the disk", n)
	}
	if out, err := exec.Command("mount", "-o", "remount,size=64m", disk).CombinedOutput(); err != nil {
		t.Fatalf("remount: %s", out)
	}
	next := len(acknowledged)
	index, hashes, checkpoint, err := s.Append(t.Context(), entry(next))
	if err != nil {
		t.Fatal(err)
	}
	checkProof(t, s, entry(next), index, hashes, checkpoint)
	d, err := openLogDir(filepath.Join(disk, "sig"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	leaves := leafReader{dir: d}
	for i := range acknowledged {
		if got, _, _, err := leaves.read(uint64(i), uint64(index)+1); err != nil || string(got) != string(entry(i)) {
			t.Fatalf("acknowledged entry %d is lost: %v", i, err)
		}
	}
}
