package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/sallyport-ci/sallyport"
)

const (
	// logPage is how much of a log a page without script shows at once.
	logPage = 64 << 10
	// logChunk is how much is read at once to stream or to download.
	logChunk = 1 << 20
	// maxLogLine bounds the encoding of one line; the yard's own bound is far below.
	maxLogLine = 4 << 20
)

// decodeLog returns the whole lines of data and the number of bytes they take.
// What is not a LogLine becomes a system line that says so. With
// skip, data begins within a line, which is left out.
func decodeLog(data []byte, skip bool) (lines []sallyport.LogLine, used int) {
	if skip {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			return nil, 0
		}
		used = i + 1
	}
	for {
		i := bytes.IndexByte(data[used:], '\n')
		if i < 0 {
			return lines, used
		}
		lines = append(lines, decodeLine(data[used:used+i]))
		used += i + 1
	}
}

func decodeLine(b []byte) sallyport.LogLine {
	var l sallyport.LogLine
	if err := json.Unmarshal(b, &l); err != nil {
		return sallyport.LogLine{Kind: sallyport.LogSystem, Text: "this line of the log cannot be read"}
	}
	return l
}

// readLog returns encoded whole lines from offset, nil at the present end.
func (s *server) readLog(ctx context.Context, j sallyport.JobID, offset int64, size int) ([]byte, error) {
	for {
		data, _, err := s.Runs.Log(ctx, j, offset, size, 0)
		if err != nil {
			return nil, err
		}
		if end := bytes.LastIndexByte(data, '\n'); end >= 0 {
			return data[:end+1], nil
		}
		if len(data) < size || size >= maxLogLine {
			return nil, nil
		}
		size *= 2
	}
}

// rawLog sends the log as plain text, as far as it goes now: without colours,
// with ?ansi=1 with them; with ?download=1 as a file.
func (s *server) rawLog(w http.ResponseWriter, r *http.Request) error {
	_, job, err := s.findJob(r)
	if err != nil {
		return err
	}
	patient(w)
	ansi := r.URL.Query().Get("ansi") != ""
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if r.URL.Query().Get("download") != "" {
		attachment(w, job.Key+"-"+strconv.Itoa(job.Index)+".log", "text/plain; charset=utf-8", -1)
	}
	out := bufio.NewWriterSize(w, 64<<10)
	for offset := int64(0); ; {
		data, err := s.readLog(r.Context(), job.ID, offset, logChunk)
		if err != nil && offset == 0 {
			return err
		}
		if err != nil {
			panic(http.ErrAbortHandler) // the reader must see that it is cut short
		}
		if len(data) == 0 {
			return gone(out.Flush())
		}
		offset += int64(len(data))
		lines, _ := decodeLog(data, false)
		for _, l := range lines {
			writeRaw(out, l, ansi)
		}
	}
}

func writeRaw(out *bufio.Writer, l sallyport.LogLine, ansi bool) {
	switch l.Kind {
	case sallyport.LogEndGroup:
		return
	case sallyport.LogOutput:
	default:
		_, _ = out.WriteString("[" + string(l.Kind) + "] ")
	}
	if ansi {
		_, _ = out.WriteString(l.Text)
	} else {
		for _, seg := range ansiSegments(l.Text) {
			_, _ = out.WriteString(seg.Text)
		}
	}
	_ = out.WriteByte('\n')
}
