package oci

import (
	"bytes"
	"io"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/blobstore"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

// served pushes an image to a registry on loopback.
func served(t *testing.T, platform v1.Platform) (host string, image v1.Image) {
	t.Helper()
	server := httptest.NewServer(registry.New())
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if image, err = random.Image(2000, 3); err != nil {
		t.Fatal(err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = platform.OS, platform.Architecture
	file.Config = v1.Config{Env: []string{"A=b=c", "broken"}, Entrypoint: []string{"/e"}, Cmd: []string{"x"}, User: "app", WorkingDir: "/w",
		ExposedPorts: map[string]struct{}{"5432/tcp": {}, "53/udp": {}, "80": {}}}
	if image, err = mutate.ConfigFile(image, file); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(u.Host + "/team/db:16")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	return u.Host, image
}

func open(t *testing.T, registries ...string) *Registry {
	t.Helper()
	blobs, err := blobstore.OpenDir(blobstore.Config{Dir: filepath.Join(t.TempDir(), "blobs"), KMS: sallyporttest.NewKMS()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	r, err := New(Config{Blobs: blobs, Registries: registries})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestResolve(t *testing.T) {
	t.Parallel()
	host, image := served(t, v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
	if _, err := open(t, "registry.example").Resolve(t.Context(), host+"/team/db:16", false); sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a registry that nobody allowed: got %v, want %s", err, sallyport.CodeDenied)
	}
	r := open(t, host)
	got, err := r.Resolve(t.Context(), host+"/team/db:16", true)
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := image.Digest()
	if string(got.Digest) != digest.String() || got.Name != host+"/team/db" || len(got.Layers) != 3 {
		t.Errorf("got %+v", got)
	}
	c := got.Config
	if len(c.Env) != 1 || c.Env[0] != (sallyport.EnvVar{Name: "A", Value: "b=c"}) || c.User != "app" || c.WorkingDir != "/w" || len(c.Ports) != 2 || c.Ports[1] != 5432 {
		t.Errorf("config %+v", c)
	}
	for range 2 { // fetched, and kept
		for i, l := range got.Layers {
			content, err := r.Layer(t.Context(), got, l.Digest)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(content)
			content.Close()
			layers, _ := image.Layers()
			want, _ := layers[i].Compressed()
			w, _ := io.ReadAll(want)
			if err != nil || !bytes.Equal(b, w) {
				t.Errorf("layer %d: %d bytes, %v; want %d", i, len(b), err, len(w))
			}
		}
	}
	if again, err := r.Resolve(t.Context(), host+"/team/db@"+string(got.Digest), false); err != nil || again.Digest != got.Digest {
		t.Errorf("by digest: %+v, %v", again, err)
	}
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	host, _ := served(t, v1.Platform{OS: "linux", Architecture: "s390x"})
	r := open(t, "*")
	for reference, want := range map[string]sallyport.Code{
		host + "/team/db:16":        sallyport.CodeInvalid, // another platform
		host + "/team/db:17":        sallyport.CodeNotFound,
		"UPPER CASE":                sallyport.CodeInvalid,
		"":                          sallyport.CodeInvalid,
		strings.Repeat("x", 1000):   sallyport.CodeInvalid,
		"127.0.0.1:1/nobody/serves": sallyport.CodeUnavailable,
	} {
		if _, err := r.Resolve(t.Context(), reference, false); sallyport.ErrorCode(err) != want {
			t.Errorf("%.60q: got %v, want %s", reference, err, want)
		}
	}
}
