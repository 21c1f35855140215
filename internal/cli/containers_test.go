package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// smallImage makes an image of a few programs of this host with the libraries
// that they need, and of this test binary as /server, and serves it on loopback.
func smallImage(t *testing.T) (reference string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]string{"bin/sh": "sh", "bin/cat": "cat", "bin/id": "id", "bin/ls": "ls", "bin/sleep": "sleep", "bin/env": "env", "server": exe}
	content := map[string][]byte{
		"etc/passwd": []byte("root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"), "etc/marker": []byte("of the image\n"),
		"entry": []byte("#!/bin/sh\necho \"entry $* in $(pwd) with $INPUT_WHO\"\necho \"greeting=hello $INPUT_WHO\" >> \"$GITHUB_OUTPUT\"\n"),
	}
	for inside, program := range programs {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			t.Fatal(err)
		}
		if content[inside], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		libraries, _ := exec.Command("ldd", path).Output() // a static program has none
		for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(string(libraries), -1) {
			if content[strings.TrimPrefix(lib, "/")], err = os.ReadFile(lib); err != nil {
				t.Fatal(err)
			}
		}
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for path, b := range content {
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(b)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		t.Fatal(err)
	}
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: must(image.ConfigFile()).RootFS,
		Config: v1.Config{Env: []string{"PATH=/bin", "FROM=image"}, Entrypoint: []string{"/server", "sallyporttest:probe", "serve"}, Cmd: []string{"80"},
			ExposedPorts: map[string]struct{}{"80/tcp": {}}}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	reference = strings.TrimPrefix(server.URL, "http://") + "/small:1"
	if err := ggcr.Write(must(name.ParseReference(reference)), image); err != nil {
		t.Fatal(err)
	}
	return reference
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestContainers runs jobs in images, with services in images beside them.
func TestContainers(t *testing.T) {
	t.Parallel()
	needRuntime(t)
	image := smallImage(t)
	dir := t.TempDir()
	work := strings.ReplaceAll(`on: push
jobs:
  inside:
    runs-on: ubuntu-latest
    container:
      image: IMAGE
      env: {GIVEN: by the workflow}
      options: --user app --cpus 1
    services:
      web: {image: IMAGE}
    outputs:
      marker: ${{ steps.look.outputs.marker }}
    steps:
      - uses: actions/checkout@v4
      - id: look
        run: |
          echo "marker=$(cat /etc/marker), $FROM, $GIVEN, $(id -u), $(cat hello.txt), $HOME" >> $GITHUB_OUTPUT
          ls /usr/bin 2>/dev/null && exit 1
          [ "$GITHUB_WORKSPACE" = "${{ github.workspace }}" ] && [ "$(pwd)" = "$GITHUB_WORKSPACE" ]
      - run: /server sallyporttest:probe get http://web:80/by-name
      - run: echo '${{ job.services.web.ports['80'] }} ${{ job.container.network }}'
  beside:
    runs-on: ubuntu-latest
    services:
      web:
        image: IMAGE
        ports: ['8080:80']
        options: >-
          --health-cmd "/server sallyporttest:probe get http://127.0.0.1:80/healthy"
          --health-interval 200ms --health-retries 100
      none: {image: "${{ '' }}"}
    steps:
      - run: |
          exec 3<>/dev/tcp/127.0.0.1/8080
          printf 'GET /x HTTP/1.0\r\n\r\n' >&3
          cat <&3 | grep 'hello from the room /x'
      - run: test "${{ job.services.web.ports['80'] }}" = 8080
      - run: test ! -e /etc/marker
  actions:
    runs-on: ubuntu-latest
    outputs: {greeting: "${{ steps.act.outputs.greeting }}"}
    steps:
      - uses: actions/checkout@v4
      - uses: docker://IMAGE
        with: {entrypoint: /bin/sh, args: -c "cat hello.txt > from-image; id -u; env"}
        env: {MINE: of the step}
      - run: grep 'from the repository' from-image
      - id: act
        uses: ./act
        with: {who: world}
  sick:
    runs-on: ubuntu-latest
    services:
      web: {image: IMAGE, options: --health-cmd "exit 1" --health-interval 50ms --health-retries 2}
    steps:
      - run: echo never
  privileged:
    runs-on: ubuntu-latest
    container: {image: IMAGE, options: --privileged}
    steps:
      - run: echo never
  mounted:
    runs-on: ubuntu-latest
    container: {image: IMAGE, volumes: ['/etc:/host']}
    steps:
      - run: echo never
`, "IMAGE", image)
	write(t, dir, files{".github/workflows/ci.yml": work, "hello.txt": "from the repository",
		"act/action.yml": strings.ReplaceAll("name: act\ninputs: {who: {}}\noutputs: {greeting: {}}\nruns:\n  using: docker\n  image: docker://IMAGE\n  entrypoint: /entry\n  args: [one, '${{ inputs.who }}']\n", "IMAGE", image)})
	got := command(t, os.Environ(), "sallyport", "run", "-C", dir, "--json")
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	var result runResult
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &result); err != nil {
		t.Fatalf("last line %q: %v\n%s", lines[len(lines)-1], err, got.stderr)
	}
	want := map[string]string{"inside": "success", "beside": "success", "actions": "success", "sick": "failure", "privileged": "failure", "mounted": "failure"}
	for _, j := range result.Jobs {
		if string(j.Conclusion) != want[j.ID] {
			t.Errorf("job %s: %s (%s), want %s", j.ID, j.Conclusion, j.Cause, want[j.ID])
		}
		switch j.ID {
		case "inside":
			if m := j.Outputs["marker"]; m != "of the image, image, by the workflow, 1000, from the repository, /github/home" {
				t.Errorf("inside sees %q", m)
			}
		case "actions":
			if g := j.Outputs["greeting"]; g != "hello world" {
				t.Errorf("the action's output is %q", g)
			}
			for _, want := range []string{"entry one world in /github/workspace with world", "FROM=image", "MINE=of the step", "GITHUB_WORKSPACE=/github/workspace"} {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("an action did not say %q", want)
				}
			}
		case "sick":
			if !strings.Contains(j.Cause, "was not healthy after 2 checks") {
				t.Errorf("sick: %q", j.Cause)
			}
		case "privileged":
			if !strings.Contains(j.Cause, "--privileged would open the room") {
				t.Errorf("privileged: %q", j.Cause)
			}
		case "mounted":
			if !strings.Contains(j.Cause, "a directory of the host") {
				t.Errorf("mounted: %q", j.Cause)
			}
		}
	}
	if t.Failed() {
		t.Log(got.stdout)
	}
	if strings.Contains(got.stdout, `"text":"never"`) {
		t.Error("a step ran in a job whose rooms were refused")
	}
}

// write puts files into a directory.
func write(t *testing.T, dir string, all files) {
	t.Helper()
	for path, content := range all {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
