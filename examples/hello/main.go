// Command hello is a small HTTP service: it greets, and says whether it is well.
package main

import (
	_ "embed"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

//go:embed version.txt
var version string

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	server := &http.Server{
		Addr:              ":" + port,
		Handler:           newHandler(strings.TrimSpace(version)),
		ReadHeaderTimeout: 5 * time.Second,
	}
	log.Printf("hello %s listens on %s", strings.TrimSpace(version), server.Addr)
	log.Fatal(server.ListenAndServe())
}

func newHandler(version string) http.Handler {
	g := newGreeter()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		greeting, err := g.greet(r.FormValue("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "%s (version %s)\n", greeting, version)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := g.greet("health"); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
