package firewall

import (
	"bufio"
	"encoding/hex"
	"errors"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Bounds of an archive's indexes. The largest known have 100,000 packages and 100 MiB.
const (
	maxDebLine   = 1 << 20
	maxDebFiles  = 500_000
	maxPackages  = 2 << 30 // unpacked
	maxDebField  = 512
	maxIndexPath = 1024
)

// parseRelease reads the checksums of a Release file, signed or not.
func parseRelease(from io.Reader) (*release, error) {
	out := &release{sums: map[string]string{}}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxDebLine)
	inside := false
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, " ") {
			inside = strings.TrimSpace(line) == "SHA256:"
			continue
		}
		if !inside {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 3 || len(f[2]) > maxIndexPath {
			return nil, errors.New("a checksum line is not hash, size and path")
		}
		if raw, err := hex.DecodeString(f[0]); err != nil || len(raw) != 32 {
			return nil, errors.New("a checksum is none")
		}
		if path.Clean(f[2]) != f[2] || strings.HasPrefix(f[2], "/") || strings.HasPrefix(f[2], "../") {
			return nil, errors.New("a path leads out of the archive")
		}
		if out.sums[f[2]] = strings.ToLower(f[0]); len(out.sums) > maxDebFiles {
			return nil, errors.New("it names too many files")
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(out.sums) == 0 {
		return nil, errors.New("it has no SHA256 checksums")
	}
	return out, nil
}

// maxDictionary is what xz needs to unpack what its highest level packed.
const maxDictionary = 64 << 20

// openXZ unpacks an index. The memory that its first block asks for is looked at before it is given; archives
// pack an index in one block.
func openXZ(from io.ReadSeeker) (io.Reader, error) {
	var head [32]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return nil, err
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	at := 14 // after the stream's header, the block header's size and its flags
	for _, sized := range []byte{0x40, 0x80} {
		if head[13]&sized != 0 { // a number of seven bits a byte
			for at < 29 && head[at]&0x80 != 0 {
				at++
			}
			at++
		}
	}
	if at > 29 || head[at] != 0x21 || head[at+1] != 1 { // LZMA2 alone
		return nil, errors.New("it is packed in an unknown way")
	}
	if size, err := lzma.DecodeDictCap(head[at+2]); err != nil || size > maxDictionary {
		return nil, errors.New("it needs too much memory")
	}
	return xz.NewReader(from)
}

// debFile is what an index says of a package.
type debFile struct {
	name, version, arch string
	sum                 [32]byte
	size                int64
}

func (d debFile) sha256() string { return hex.EncodeToString(d.sum[:]) }

// parsePackages reads a Packages index: the files that it names, by path.
func parsePackages(from io.Reader) (map[string]debFile, error) {
	out := map[string]debFile{}
	bounded := &io.LimitedReader{R: from, N: maxPackages}
	lines := bufio.NewScanner(bounded)
	lines.Buffer(make([]byte, 64<<10), maxDebLine)
	var one debFile
	file, summed := "", false
	end := func() error {
		if file != "" && summed && one.name != "" && one.version != "" {
			if out[file] = one; len(out) > maxDebFiles {
				return errors.New("it names too many packages")
			}
		}
		one, file, summed = debFile{}, "", false
		return nil
	}
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if err := end(); err != nil {
				return nil, err
			}
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || line[0] == ' ' || line[0] == '\t' {
			continue
		}
		value = strings.TrimSpace(value)
		switch key {
		case "Package", "Version", "Architecture", "Filename", "SHA256", "Size":
			if len(value) > maxDebField {
				return nil, errors.New("a field is too long")
			}
		}
		switch key {
		case "Package":
			one.name = strings.Clone(value)
		case "Version":
			one.version = strings.Clone(value)
		case "Architecture":
			one.arch = strings.Clone(value)
		case "Filename":
			file = strings.TrimPrefix(path.Clean("/"+value), "/")
		case "Size":
			one.size, _ = strconv.ParseInt(value, 10, 64) // the checksum decides
		case "SHA256":
			n, err := hex.Decode(one.sum[:], []byte(value[:min(len(value), 64)]))
			summed = err == nil && n == 32 && len(value) == 64
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if bounded.N == 0 {
		return nil, errors.New("it unpacks to too much")
	}
	return out, end()
}
