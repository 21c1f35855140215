package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed static
var staticFS embed.FS

// staticFiles serves the embedded files under /static/HASH/NAME. HASH is that of
// all of them, so that the modules may import each other by relative path and
// every answer may be cached for ever.
type staticFiles struct {
	hash  string
	files map[string][]byte
}

var staticTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

func loadStatic() (*staticFiles, error) {
	s := &staticFiles{files: map[string][]byte{}}
	h := sha256.New()
	err := fs.WalkDir(staticFS, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if staticTypes[path.Ext(name)] == "" {
			return fmt.Errorf("static file %s has no known type", name)
		}
		b, err := staticFS.ReadFile(name)
		s.files[strings.TrimPrefix(name, "static/")] = b
		fmt.Fprintf(h, "%s %d\n%s", name, len(b), b)
		return err
	})
	s.hash = hex.EncodeToString(h.Sum(nil))[:12]
	return s, err
}

func (s *staticFiles) url(name string) string { return "/static/" + s.hash + "/" + name }

func (s *staticFiles) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hash, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/static/"), "/")
	b, ok := s.files[name]
	if !ok || hash != s.hash {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Content-Type", staticTypes[path.Ext(name)])
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
}
