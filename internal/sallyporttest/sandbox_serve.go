package sallyporttest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// servedPort is the port at which the room finds the host's socket.
const servedPort = 61357

// testServe has a room call a server of the host over its own loopback.
func testServe(t *testing.T, s *suite) {
	// A unix socket's path is short; the suite's directory may not be.
	dir, err := os.MkdirTemp("", "serve")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	r := s.room(t, sallyport.RoomSpec{Serve: path, ServePort: servedPort})
	url := fmt.Sprintf("http://127.0.0.1:%d/", servedPort)
	if out, res := probe(t, r, "get", url+"early"); res.ExitCode == 0 {
		t.Errorf("an answer although nobody serves the socket: %q", out)
	}

	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	hangs, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/hang" {
			hangs <- struct{}{}
			<-q.Context().Done()
			gone <- struct{}{}
			return
		}
		n, err := io.Copy(io.Discard, q.Body)
		fmt.Fprintf(w, "hello from the host %s %d %v", q.URL.Path, n, err)
	})}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Close()
		<-stopped
	})

	var urls, want []string
	for i := range 20 {
		urls = append(urls, fmt.Sprintf("%s%d", url, i))
		want = append(want, fmt.Sprintf("hello from the host /%d 0 <nil>", i))
	}
	if out, _ := probe(t, r, append([]string{"get"}, urls...)...); out != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", out, strings.Join(want, "\n"))
	}
	const size = 8 << 20 // more than any buffer on the way
	if out, _ := probe(t, r, "put", url+"big", fmt.Sprint(size)); out != fmt.Sprintf("hello from the host /big %d <nil>", size) {
		t.Errorf("after sending %d bytes: got %q", size, out)
	}

	// The room gained a port that answers, and nothing else: neither a socket's
	// name nor a file, and init holds none of it.
	if out, _ := sh(t, r, "cat /proc/net/unix | tail -n +2 | grep -c / ; ls "+dir+" 2>&1 | head -1"); !strings.HasPrefix(out, "0\n") || !strings.Contains(out, "No such file") {
		t.Errorf("the host's socket shows in the room: %q", out)
	}
	if out, _ := probe(t, r, "connect", path, fmt.Sprintf("127.0.0.1:%d", servedPort+1), "192.0.2.1:80"); out != fmt.Sprintf("%s ENOENT\n127.0.0.1:%d ECONNREFUSED\n192.0.2.1:80 ENETUNREACH", path, servedPort+1) {
		t.Errorf("got\n%s", out)
	}
	// A step cannot take the port over.
	if out, res := probe(t, r, "serve", fmt.Sprint(servedPort)); res.ExitCode == 0 || strings.Contains(out, "listening") {
		t.Errorf("a step listens on the served port: %q", out)
	}
	// Another room has its own loopback: what is served here is not served there.
	other := s.room(t, sallyport.RoomSpec{})
	if out, _ := probe(t, other, "connect", fmt.Sprintf("127.0.0.1:%d", servedPort)); !strings.HasSuffix(out, "ECONNREFUSED") {
		t.Errorf("from another room: %q", out)
	}

	// Destroy ends connections that are open.
	ended := make(chan error, 1)
	go func() {
		_, err := r.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{probePath, probeMark, "get", url + "hang"}, Env: env})
		ended <- err
	}()
	<-hangs
	if err := r.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-ended; sallyport.ErrorCode(err) != sallyport.CodeUnavailable {
		t.Errorf("Exec of a room that was destroyed: got %v, want %s", err, sallyport.CodeUnavailable)
	}
	<-gone
}
