package tlog

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestHandler(t *testing.T) {
	t.Parallel()
	_, dir, _ := trailed(t, 10)
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../secret", filepath.Join(dir, "tile", "0", "077")); err != nil {
		t.Fatal(err)
	}
	get := func(path string, entries bool) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = path
		Handler(dir, entries).ServeHTTP(w, r)
		return w.Code
	}
	tiles, _ := filepath.Glob(filepath.Join(dir, "tile", "0", "000.p", "*"))
	if len(tiles) == 0 {
		t.Fatal("there is no tile")
	}
	width := filepath.Base(tiles[0])
	for path, want := range map[string]int{
		"/checkpoint": 200, "/tile/0/000.p/" + width: 200, "/tile/entries/000.p/" + width: 200,
		"/tile/0/001": 404, "/.state/treeState": 404, "/../secret": 404, "/tile/0/../../../secret": 404, "/": 404, "/tile": 404, "/tile/0": 404,
		"/tile/0/077": 503,
	} {
		if got := get(path, true); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	if got := get("/tile/entries/000.p/"+width, false); got != 404 {
		t.Errorf("entries of a log that keeps them: %d", got)
	}
}
