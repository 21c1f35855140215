package tlog

import (
	"net/http"
	"os"
	"regexp"
	"strings"
)

// tilePath is what C2SP tlog-tiles has clients ask for.
var tilePath = regexp.MustCompile(`^(checkpoint|tile/(entries|[0-9]{1,2})/(x[0-9]{3}/)*[0-9]{3}(\.p/[1-9][0-9]{0,2})?)$`)

// Handler serves the log in dir to anybody, read-only (C2SP tlog-tiles):
// checkpoint, tiles of hashes and, if entries says so, the entries themselves.
func Handler(dir string, entries bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		isEntries := strings.HasPrefix(name, "tile/entries/")
		if !tilePath.MatchString(name) || isEntries && !entries {
			http.NotFound(w, r)
			return
		}
		d, err := openLogDir(dir)
		if err != nil {
			http.Error(w, "the log cannot be read", http.StatusServiceUnavailable)
			return
		}
		defer d.close()
		limit, kind, cache := int64(maxTileFile), "application/octet-stream", "public, max-age=31536000, immutable"
		switch {
		case isEntries:
			limit = maxBundleFile
		case name == "checkpoint":
			limit, kind, cache = maxCheckpointFile, "text/plain; charset=utf-8", "no-cache"
		}
		b, err := d.read(name, limit)
		switch {
		case os.IsNotExist(err):
			http.NotFound(w, r)
			return
		case err != nil:
			http.Error(w, "the log cannot be read", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", cache)
		_, _ = w.Write(b)
	})
}
