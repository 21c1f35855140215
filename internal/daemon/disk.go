package daemon

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// minFree is what a data directory's disk should have left: below it, pushes,
// artifacts and the store's own journal begin to fail.
const minFree = 64 << 20

// diskTrouble says what is wrong with the disk of dir, for /readyz and the system page.
func diskTrouble(dir string) []string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return []string{fmt.Sprintf("the disk of the data directory cannot be looked at: %v", err)}
	}
	switch free := int64(s.Bavail) * s.Bsize; {
	case free < minFree:
		return []string{fmt.Sprintf("the disk of the data directory %s has %d MiB left: make room", filepath.Base(dir), free>>20)}
	case s.Files > 0 && s.Ffree == 0: // some file systems count no files
		return []string{fmt.Sprintf("the disk of the data directory %s has no room for another file", filepath.Base(dir))}
	}
	return nil
}
