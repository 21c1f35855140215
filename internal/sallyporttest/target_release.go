package sallyporttest

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
)

const releaseNameEnv = "SALLYPORT_TEST_RELEASE"

// ServeRelease makes the calling process the program that the Target suite
// deploys, when its environment says so, and does not return then. A TestMain
// calls it first of all, so that a test binary can be deployed.
func ServeRelease() {
	name, ok := os.LookupEnv(releaseNameEnv)
	if !ok {
		return
	}
	fmt.Printf("\x1b[32m%s is ready\x1b[0m on port %s\n", name, os.Getenv("PORT"))
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), releaseHandler(name)))
	os.Exit(1)
}

func releaseHandler(name string) http.Handler {
	instance := rand.Text()
	var sick atomic.Bool
	mux := http.NewServeMux()
	handle := func(path string, f http.HandlerFunc) { mux.HandleFunc(path, f) }
	handle("/{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) })
	handle("/instance", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, instance) })
	handle("/fail", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	handle("/sicken", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	handle("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) })
	handle("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	handle("/exit", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "0")
		_ = http.NewResponseController(w).Flush()
		os.Exit(3)
	})
	handle("/echo", func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	})
	return mux
}
