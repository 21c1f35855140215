package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestHandler(t *testing.T) {
	h := newHandler("1.2.3")
	for _, c := range []struct {
		path   string
		status int
		body   string
	}{
		{"/", http.StatusOK, "Hello, world! (version 1.2.3)\n"},
		{"/?name=Ada", http.StatusOK, "Hello, Ada! (version 1.2.3)\n"},
		{"/healthz", http.StatusOK, "ok\n"},
		{"/nowhere", http.StatusNotFound, "404 page not found\n"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.path, nil))
		if w.Code != c.status || w.Body.String() != c.body {
			t.Errorf("GET %s: got %d %q, want %d %q", c.path, w.Code, w.Body.String(), c.status, c.body)
		}
	}
}
