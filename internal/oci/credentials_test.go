package oci

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sallyport-ci/sallyport"
)

// TestAnonymous wants the host's credentials used for those who may have them, and for nobody
// else: neither to find an image nor for its layers.
func TestAnonymous(t *testing.T) { // not in parallel: it sets where credentials lie
	host, _ := served(t, v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
	var named atomic.Int32
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			named.Add(1)
		} else if r.URL.Path == "/v2/" { // asks for a name where one is to be had
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		resp, err := http.Get("http://" + host + r.URL.Path)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		w.Header().Set("Docker-Content-Digest", resp.Header.Get("Docker-Content-Digest"))
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(behind.Close)
	address := strings.TrimPrefix(behind.URL, "http://")
	dir := t.TempDir()
	config, err := json.Marshal(map[string]any{"auths": map[string]any{address: map[string]string{"username": "host", "password": "secret"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
	for _, anonymous := range []bool{true, false} {
		named.Store(0)
		r := open(t, address)
		image, err := r.Resolve(t.Context(), address+"/team/db:16", anonymous)
		if err == nil {
			content, lerr := r.Layer(t.Context(), image, image.Layers[0].Digest)
			if err = lerr; err == nil {
				content.Close()
			}
		}
		if err != nil || (named.Load() > 0) == anonymous {
			t.Errorf("anonymous %v: %d requests with the host's name, %v", anonymous, named.Load(), err)
		}
	}
}

// TestHostileManifest refuses sizes that a reader would follow without end.
func TestHostileManifest(t *testing.T) {
	t.Parallel()
	inner := registry.New()
	var manifest atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			_, _ = w.Write([]byte(manifest.Load().(string)))
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	const blob = `"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"`
	for name, sizes := range map[string][2]string{"a negative configuration": {"-1", "10"}, "a configuration too large": {"1048577", "10"}} {
		manifest.Store(fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":%s,%s},`+
			`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":%s,%s}]}`, sizes[0], blob, sizes[1], blob))
		if _, err := open(t, host).Resolve(t.Context(), host+"/x/y:1", true); sallyport.ErrorCode(err) != sallyport.CodeInvalid || !strings.Contains(err.Error(), "configuration of more than") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
