package forge

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// TestFullDiskSaysSo makes repositories on a disk that is full, and again when
// there is room.
func TestFullDiskSaysSo(t *testing.T) {
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
	g := open(t, func(c *Config) { c.Dir = filepath.Join(disk, "repos") })
	fill, err := os.Create(filepath.Join(disk, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	zeros, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zeros.Close()
	if n, err := io.Copy(fill, io.LimitReader(zeros, 2<<20)); err == nil {
		t.Fatalf("%d bytes went onto a disk of 1 MiB", n)
	}
	fill.Close()
	p := sallyport.Project{ID: sallyport.ProjectID("0198c0de-0000-7000-8000-000000000001"), DefaultBranch: "main"}
	if err := g.Create(t.Context(), p); sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("Create on a full disk: got %v, want %s", err, sallyport.CodeUnavailable)
	}
	if err := os.Remove(fill.Name()); err != nil {
		t.Fatal(err)
	}
	if err := g.Create(t.Context(), p); err != nil {
		t.Errorf("Create with room: %v", err)
	}
}
