package pidone

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// maxPasswd bounds what is read of a room's /etc/passwd and /etc/group.
const maxPasswd = 1 << 20

// credential turns USER[:GROUP], each a name or a number, into ids, as the room's
// own files have it (OCI image specification, "User"). It runs in the room.
func credential(spec string) (*syscall.Credential, error) {
	user, group, grouped := strings.Cut(spec, ":")
	c := &syscall.Credential{}
	uid, err := strconv.ParseUint(user, 10, 32)
	c.Uid = uint32(uid)
	known := false
	if err := fields("/etc/passwd", func(f []string) bool {
		if known = len(f) >= 4 && (f[0] == user || f[2] == user); known {
			id, _ := strconv.ParseUint(f[2], 10, 32)
			gid, _ := strconv.ParseUint(f[3], 10, 32)
			user, c.Uid, c.Gid = f[0], uint32(id), uint32(gid)
		}
		return known
	}); err != nil {
		return nil, err
	}
	if !known && err != nil {
		return nil, fmt.Errorf("there is no user %.60q in the image", user)
	}
	if !grouped {
		err = fields("/etc/group", func(f []string) bool {
			if len(f) >= 4 && len(c.Groups) < 64 && contains(f[3], user) {
				if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
					c.Groups = append(c.Groups, uint32(gid))
				}
			}
			return false
		})
		return c, err
	}
	gid, err := strconv.ParseUint(group, 10, 32)
	c.Gid, known = uint32(gid), err == nil
	if err := fields("/etc/group", func(f []string) bool {
		if len(f) >= 3 && f[0] == group {
			gid, err := strconv.ParseUint(f[2], 10, 32)
			c.Gid, known = uint32(gid), err == nil
			return known
		}
		return false
	}); err != nil {
		return nil, err
	}
	if !known {
		return nil, fmt.Errorf("there is no group %.60q in the image", group)
	}
	return c, nil
}

func contains(list, name string) bool {
	for n := range strings.SplitSeq(list, ",") {
		if n == name {
			return true
		}
	}
	return false
}

// fields hands the lines of a file of colon-separated fields to f until it says
// that it has enough. A file that is not there has none.
func fields(path string, f func([]string) bool) error {
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(io.LimitReader(file, maxPasswd))
	for lines.Scan() {
		if f(strings.Split(strings.TrimSpace(lines.Text()), ":")) {
			return nil
		}
	}
	return lines.Err()
}
