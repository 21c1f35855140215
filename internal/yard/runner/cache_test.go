package runner

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	sallyport "github.com/sallyport-ci/sallyport"
)

// cached runs a job on the yard that has the caches of the jobs before.
func cached(t *testing.T, yard *fakeYard, yaml string) ended {
	t.Helper()
	yard.mu.Lock()
	yard.log, yard.reports = nil, nil
	yard.mu.Unlock()
	return trial{yard: yard, yaml: steps(yaml)}.try(t)
}

const outputsOf = `
- run: echo "hit=${{ steps.c.outputs.cache-hit }} primary=${{ steps.c.outputs.cache-primary-key }} matched=${{ steps.c.outputs.cache-matched-key }}"
`

func TestCache(t *testing.T) {
	t.Parallel()
	yard := newFakeYard()
	const use = `
- id: c
  uses: actions/cache@v4
  with:
    path: |
      ~/.npm
      node_modules
      !node_modules/skip
    key: npm-1
    restore-keys: |
      npm-
      yarn-
`
	const fill = `
- run: |
    mkdir -p ~/.npm/_cacache node_modules/a node_modules/skip node_modules/empty
    echo tool > node_modules/a/tool; chmod 755 node_modules/a/tool; echo x > node_modules/skip/x; echo store > ~/.npm/_cacache/s
    ln -s ../a/tool node_modules/empty/link; ln -s /usr/bin/env node_modules/abs; ln node_modules/a/tool node_modules/hard; mkfifo node_modules/pipe
    touch -d '2001-02-03 04:05:06.789' node_modules/a/tool
`
	e := cached(t, yard, use+fill+outputsOf)
	if e.Conclusion != sallyport.Success {
		t.Fatalf("%s: %s\n%s", e.Conclusion, e.Cause, e.all())
	}
	for _, want := range []string{"Cache not found for input keys: npm-1, npm-, yarn-", "hit= primary=npm-1 matched=", "Cache saved with key: npm-1"} {
		if !strings.Contains(e.text(), want+"\n") {
			t.Errorf("no %q in\n%s", want, e.all())
		}
	}
	if last := e.step(len(e.Steps)); last.Name != "Post Run actions/cache@v4" || last.Conclusion != sallyport.Success || last.Number != 4 || last.FinishedAt.IsZero() {
		t.Errorf("the last step is %+v", last)
	}
	if len(yard.caches.entries) != 1 {
		t.Fatalf("kept %+v", yard.caches.entries)
	}

	// An exact hit: everything is back, and nothing is saved again.
	e = cached(t, yard, use+outputsOf+`
- run: |
    cat ~/.npm/_cacache/s; test -x node_modules/a/tool; stat -c %a:%.3Y node_modules/a/tool; cat node_modules/hard
    readlink node_modules/empty/link node_modules/abs; cd node_modules; ls -d *
`)
	if e.Conclusion != sallyport.Success {
		t.Fatalf("%s: %s\n%s", e.Conclusion, e.Cause, e.all())
	}
	for _, want := range []string{"Cache restored from key: npm-1", "hit=true primary=npm-1 matched=npm-1", "store", "755:981173106.789", "tool",
		"../a/tool", "/usr/bin/env", "a\nabs\nempty\nhard", "Cache hit occurred on the primary key npm-1, not saving cache."} {
		if !strings.Contains(e.text(), want+"\n") {
			t.Errorf("no %q in\n%s", want, e.all())
		}
	}

	// A partial match is restored and the primary key saved.
	e = cached(t, yard, strings.Replace(use, "key: npm-1", "key: npm-2", 1)+outputsOf)
	for _, want := range []string{"Cache restored from key: npm-1", "hit=false primary=npm-2 matched=npm-1", "Cache saved with key: npm-2"} {
		if !strings.Contains(e.text(), want+"\n") {
			t.Errorf("no %q in\n%s", want, e.all())
		}
	}
	// Other paths are another version.
	e = cached(t, yard, strings.Replace(use, "~/.npm", "~/.yarn", 1))
	if !strings.Contains(e.text(), "Cache not found") {
		t.Errorf("other paths were restored:\n%s", e.all())
	}
}

func TestCacheInputs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		yaml    string
		want    []string // lines of the log
		failure string
		saved   int
	}{
		"no key":      {"- uses: actions/cache@v4\n  with: { path: a }\n", nil, "Input required and not supplied: key.", 0},
		"no path":     {"- uses: actions/cache@v4\n  with: { key: a }\n", nil, "Input required and not supplied: path.", 0},
		"comma":       {"- uses: actions/cache@v4\n  with: { path: a, key: 'a,b' }\n", nil, "has a comma", 0},
		"too many":    {"- uses: actions/cache@v4\n  with: { path: a, key: a, restore-keys: \"1\\n2\\n3\\n4\\n5\\n6\\n7\\n8\\n9\\n10\" }\n", nil, "at most 10 keys", 0},
		"root":        {"- uses: actions/cache/save@v4\n  with: { path: /, key: a }\n", nil, "cannot be cached", 0},
		"wild root":   {"- uses: actions/cache/save@v4\n  with: { path: '/*', key: a }\n", nil, "cannot be cached", 0},
		"proc":        {"- uses: actions/cache/save@v4\n  with: { path: /proc/1, key: a }\n", nil, "cannot be cached", 0},
		"pattern":     {"- uses: actions/cache/save@v4\n  with: { path: 'a/[', key: a }\n", nil, "is not a valid pattern", 0},
		"exclusions":  {"- uses: actions/cache/save@v4\n  with: { path: '!a', key: a }\n", nil, "At least one directory or file path is required", 0},
		"boolean":     {"- uses: actions/cache@v4\n  with: { path: a, key: a, lookup-only: maybe }\n", nil, "must be true or false", 0},
		"secret":      {"- uses: actions/cache@v4\n  with: { path: a, key: 'k-${{ secrets.S }}' }\n", nil, "The cache key holds a secret", 0},
		"miss":        {"- uses: actions/cache/restore@v4\n  with: { path: a, key: a, fail-on-cache-miss: true }\n", nil, "Failed to restore cache entry. Exiting as fail-on-cache-miss is set. Input key: a", 0},
		"nothing":     {"- uses: actions/cache/save@v4\n  with: { path: missing, key: a }\n", []string{"warning|Path Validation Error: Path(s) specified in the action for caching do(es) not exist, hence no cache is being saved."}, "", 0},
		"ignored":     {"- run: echo > a\n- uses: actions/cache/save@v4\n  with: { path: a, key: a, upload-chunk-size: 1, enableCrossOsArchive: true }\n", []string{"|Cache saved with key: a"}, "", 1},
		"one file":    {"- run: echo > a\n- uses: actions/cache/save@v4\n  with: { path: ./a, key: a }\n", []string{"|Cache saved with key: a"}, "", 1},
		"not twice":   {"- run: echo > a\n- uses: actions/cache/save@v4\n  with: { path: a, key: a }\n- uses: actions/cache/save@v4\n  with: { path: a, key: a }\n", []string{"|Failed to save: Unable to reserve cache with key a, another job may be creating this cache."}, "", 1},
		"failed job":  {"- uses: actions/cache@v4\n  with: { path: a, key: a }\n- run: echo > a; false\n", nil, "Step 2", 0},
		"save-always": {"- uses: actions/cache@v4\n  with: { path: a, key: a, save-always: true }\n- run: echo > a; false\n", []string{"|Cache saved with key: a"}, "Step 2", 1},
		"skipped":     {"- uses: actions/cache@v4\n  if: false\n  with: { path: a, key: a }\n- run: echo > a\n", nil, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			yard := newFakeYard()
			e := trial{yard: yard, yaml: steps(c.yaml), secrets: map[string]string{"S": "hunter2-hunter2"}}.try(t)
			for _, want := range c.want {
				if !strings.Contains(e.all(), want+"\n") {
					t.Errorf("no %q in\n%s", want, e.all())
				}
			}
			if c.failure == "" && e.Conclusion != sallyport.Success || c.failure != "" && (e.Conclusion != sallyport.Failure || !strings.Contains(strings.ToLower(e.Cause), strings.ToLower(c.failure))) {
				t.Errorf("%s: %s, want %q\n%s", e.Conclusion, e.Cause, c.failure, e.all())
			}
			if n := len(yard.caches.entries); n != c.saved {
				t.Errorf("%d entries were saved, want %d", n, c.saved)
			}
		})
	}
}

func TestCacheLookup(t *testing.T) {
	t.Parallel()
	yard := newFakeYard()
	cached(t, yard, "- run: echo one > a\n- uses: actions/cache/save@v4\n  with: { path: a, key: K-1 }\n")
	e := cached(t, yard, "- id: c\n  uses: actions/cache/restore@v4\n  with: { path: a, key: K-1, lookup-only: true }\n"+outputsOf+"- run: test ! -e a\n")
	if e.Conclusion != sallyport.Success || !strings.Contains(e.text(), "Cache found and can be restored from key: K-1\n") ||
		!strings.Contains(e.text(), "hit=true primary=K-1 matched=K-1\n") || len(yard.caches.restored) > 0 {
		t.Errorf("%s, restored %v\n%s", e.Conclusion, yard.caches.restored, e.all())
	}
}

// What the control plane refuses is a warning, as for GitHub's action, and a job goes on without.
func TestCacheRefused(t *testing.T) {
	t.Parallel()
	yard := newFakeYard()
	yard.caches.readOnly = true
	e := cached(t, yard, "- run: echo > a\n- uses: actions/cache/save@v4\n  with: { path: a, key: a }\n")
	if e.Conclusion != sallyport.Success || !strings.Contains(e.all(), "warning|Failed to save: Cache write denied: as the test says.") {
		t.Errorf("%s\n%s", e.Conclusion, e.all())
	}
	yard.caches.readOnly = false
	cached(t, yard, "- run: echo > a\n- uses: actions/cache/save@v4\n  with: { path: a, key: a }\n")
	yard.caches.getErr = sallyport.Errorf(sallyport.CodeDenied, "cache read denied: as the test says")
	e = cached(t, yard, "- id: c\n  uses: actions/cache/restore@v4\n  with: { path: a, key: a }\n"+outputsOf+"- run: test ! -e a\n")
	if e.Conclusion != sallyport.Success || !strings.Contains(e.all(), "warning|Failed to restore: Cache read denied: as the test says.") || !strings.Contains(e.text(), "hit= primary=a matched=\n") {
		t.Errorf("%s\n%s", e.Conclusion, e.all())
	}
}

// Posts run last first, under their own conditions, and know the job's status.
func TestPosts(t *testing.T) {
	t.Parallel()
	yard := newFakeYard()
	e := trial{yard: yard, files: map[string]string{"act/action.yml": "runs:\n  using: composite\n  steps:\n    - uses: actions/cache@v4\n      with: { path: in, key: in-action }\n"}, yaml: steps(`
- uses: actions/cache@v4
  with: { path: one, key: one }
- name: second
  uses: actions/cache@v4
  with: { path: two, key: two }
  continue-on-error: true
- uses: ./act
- run: echo > one; echo > two; echo > in
`)}.try(t)
	var names []string
	for _, s := range e.Steps {
		names = append(names, fmt.Sprint(s.Number, " ", s.Name, " ", s.Conclusion))
	}
	want := []string{"1 Run actions/cache@v4 success", "2 second success", "3 Run ./act success", "4 Run echo > one; echo > two; echo > in success",
		"5 Post Run ./act success", "6 Post second success", "7 Post Run actions/cache@v4 success"}
	if !slices.Equal(names, want) {
		t.Errorf("steps\n%s\nwant\n%s", strings.Join(names, "\n"), strings.Join(want, "\n"))
	}
	var keys []string
	for _, c := range yard.caches.entries {
		keys = append(keys, c.Key)
	}
	if !slices.Equal(keys, []string{"in-action", "two", "one"}) {
		t.Errorf("saved %v", keys)
	}
}

// archiveOf is the content of a cache as a job could make it with tools of its own.
func archiveOf(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err == nil {
		_, err = z.Write(makeTar(t, entries...))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func paths(t testing.TB, lines ...string) cachePaths {
	t.Helper()
	l := &layout{home: "/home/runner", work: "/home/runner/work", repo: "hello"}
	p, err := l.cachePaths(lines)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What is restored lands among the paths of the step and nowhere else.
func TestHostileCache(t *testing.T) {
	t.Parallel()
	p := paths(t, "deps", "~/.npm", "!deps/not", "/opt/x", "${{ runner.temp }}", "/home/runner/work/_temp")
	for name, c := range map[string]struct {
		content []byte
		want    string // "" for good content
	}{
		"good": {archiveOf(t, tarEntry{name: "workspace/deps", kind: tar.TypeDir}, tarEntry{name: "workspace/deps/a", body: "x"}, tarEntry{name: "home/.npm/b", body: "y"},
			tarEntry{name: "root/opt/x", body: "z"}, tarEntry{name: "workspace/deps/l", kind: tar.TypeSymlink, link: "/etc/passwd"}), ""},
		"another path":        {archiveOf(t, tarEntry{name: "workspace/other", body: "x"}), "not among the paths"},
		"excluded path":       {archiveOf(t, tarEntry{name: "workspace/deps/not/x", body: "x"}), "not among the paths"},
		"the profile":         {archiveOf(t, tarEntry{name: "home/.bashrc", body: "x"}), "not among the paths"},
		"the system":          {archiveOf(t, tarEntry{name: "root/etc/passwd", body: "x"}), "not among the paths"},
		"unknown place":       {archiveOf(t, tarEntry{name: "elsewhere/deps", body: "x"}), "not among the paths"},
		"command file":        {archiveOf(t, tarEntry{name: "work/_temp/_runner_file_commands/env_1", body: "x"}), "not among the paths"},
		"dots":                {archiveOf(t, tarEntry{name: "workspace/deps/../../x", body: "x"}), "not among the paths"},
		"dots to the top":     {archiveOf(t, tarEntry{name: "../x", body: "x"}), "leads out"},
		"absolute":            {archiveOf(t, tarEntry{name: "/etc/x", body: "x"}), "leads out"},
		"through a link":      {archiveOf(t, tarEntry{name: "workspace/deps/l", kind: tar.TypeSymlink, link: "/etc"}, tarEntry{name: "workspace/deps/l/passwd", body: "x"}), "beneath a symbolic link"},
		"through a far link":  {archiveOf(t, tarEntry{name: "workspace/deps/l", kind: tar.TypeSymlink, link: ".."}, tarEntry{name: "workspace/deps/l/a/b/c", body: "x"}), "beneath a symbolic link"},
		"by another name":     {archiveOf(t, tarEntry{name: "workspace/deps/l", kind: tar.TypeSymlink, link: "/etc"}, tarEntry{name: "home/work/hello/hello/deps/l/passwd", body: "x"}), "beneath a symbolic link"},
		"by a third name":     {archiveOf(t, tarEntry{name: "root/home/runner/.npm/l", kind: tar.TypeSymlink, link: "/etc"}, tarEntry{name: "home/.npm/l/passwd", body: "x"}), "beneath a symbolic link"},
		"hard link":           {archiveOf(t, tarEntry{name: "workspace/deps/h", kind: tar.TypeLink, link: "/etc/shadow"}), "neither file, directory nor symbolic link"},
		"device":              {archiveOf(t, tarEntry{name: "workspace/deps/d", kind: tar.TypeChar}), "neither file, directory nor symbolic link"},
		"pipe":                {archiveOf(t, tarEntry{name: "workspace/deps/p", kind: tar.TypeFifo}), "neither file, directory nor symbolic link"},
		"link to nowhere":     {archiveOf(t, tarEntry{name: "workspace/deps/l", kind: tar.TypeSymlink}), "leads nowhere"},
		"not compressed":      {makeTar(t, tarEntry{name: "workspace/deps/a"}), "read the archive"},
		"not a tar":           {[]byte("\x28\xb5\x2f\xfd"), "read the archive"},
		"nothing":             {nil, ""},
		"cut off":             {archiveOf(t, tarEntry{name: "workspace/deps/a", body: strings.Repeat("x", 5000)})[:40], "read the archive"},
		"another compression": {[]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"), "read the archive"},
	} {
		var out bytes.Buffer
		err := p.unpack(&out, bytes.NewReader(c.content))
		if c.want == "" && err != nil || c.want != "" && (sallyport.ErrorCode(err) != sallyport.CodeInvalid || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if c.want == "" {
			onlyAmong(t, p, out.Bytes())
		}
	}
	// The step that meets one fails, rather than going on with part of it.
	yard := newFakeYard()
	cached(t, yard, "- run: mkdir deps; echo > deps/a\n- uses: actions/cache/save@v4\n  with: { path: deps, key: k }\n")
	c := yard.caches.entries[0]
	yard.caches.content[c.ID] = archiveOf(t, tarEntry{name: "workspace/evil", body: "x"})
	e := cached(t, yard, "- uses: actions/cache@v4\n  with: { path: deps, key: k }\n- if: always()\n  run: test ! -e evil && echo untouched\n")
	if e.Conclusion != sallyport.Failure || !strings.Contains(e.Cause, "is refused: the archive entry \"workspace/evil\" is not among the paths") || !strings.Contains(e.text(), "untouched\n") {
		t.Errorf("%s: %s\n%s", e.Conclusion, e.Cause, e.all())
	}
}

// onlyAmong wants a tar that unpacks at the root nowhere but at the paths.
func onlyAmong(t testing.TB, p cachePaths, b []byte) {
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("what was passed on is no tar: %v", err)
		}
		name := path.Clean(h.Name)
		if name != strings.TrimSuffix(h.Name, "/") || !p.selects(name) || h.Mode&^0o777 != 0 || h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeSymlink {
			t.Errorf("passed on %+v", h)
		}
	}
}

func FuzzCacheArchive(f *testing.F) {
	f.Add(makeTar(f, tarEntry{name: "workspace/deps/a", body: "x"}, tarEntry{name: "workspace/deps/l", kind: tar.TypeSymlink, link: "a"}), true)
	f.Add(makeTar(f, tarEntry{name: "workspace/deps/l", kind: tar.TypeSymlink, link: ".."}, tarEntry{name: "workspace/deps/l/x"}), true)
	f.Add(archiveOf(f, tarEntry{name: "home/.npm/b", body: "y"}), false)
	p := paths(f, "deps/**/*.x", "deps/a", "~/.npm", "!~/.npm/c")
	f.Fuzz(func(t *testing.T, b []byte, compress bool) {
		if compress { // past the checksums
			var z bytes.Buffer
			w, err := zstd.NewWriter(&z, zstd.WithEncoderLevel(zstd.SpeedFastest))
			if err == nil {
				_, err = w.Write(b)
			}
			if err == nil {
				err = w.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			b = z.Bytes()
		}
		var out bytes.Buffer
		if err := p.unpack(&out, bytes.NewReader(b)); err == nil {
			onlyAmong(t, p, out.Bytes())
		} else if sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("an archive is refused by %v", err)
		}
	})
}

func TestCachePaths(t *testing.T) {
	t.Parallel()
	p := paths(t, "a/*.txt", "**/node_modules", "~/.cache/go-build", "~", "!**/tmp", "# remark", "/opt/hostedtoolcache/x")
	for name, want := range map[string]bool{
		"home/runner/work/hello/hello/a/x.txt": true, "home/runner/work/hello/hello/node_modules/a/b": true, "home/runner/work/hello/hello/p/q/node_modules": true,
		"home/runner/work/hello/hello/x/tmp": false, "home/runner/.cache/go-build": true, "home/runner/.bashrc": true, "opt/hostedtoolcache/x/y": true,
		"opt/hostedtoolcache/y": false, "home/other": false, "home/runner/work/_temp/_runner_file_commands": false, "etc/passwd": false,
	} {
		if got := p.selects(name); got != want {
			t.Errorf("%s: selected %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"home/runner/work/hello/hello/a": "workspace/a", "home/runner/work/hello/hello": "workspace", "home/runner/work/x": "work/x", "home/runner/.npm": "home/.npm",
		"home/runnerx": "root/home/runnerx", "opt/x": "root/opt/x",
	} {
		got := p.stored(name)
		back, ok := p.placed(got)
		if got != want || back != name || !ok {
			t.Errorf("%s is stored as %s, placed at %s; want %s", name, got, back, want)
		}
	}
	if want := []string{"/home/runner", "/opt/hostedtoolcache/x"}; !slices.Equal(p.searches(), want) {
		t.Errorf("searches %q", p.searches())
	}
	var l lister
	l.selects = p.selects
	for _, piece := range []string{"/opt/hosted", "toolcache/x\x00/etc/pass", "wd\x00", "/opt/hostedtoolcache/x/line\nend\x00"} {
		if _, err := io.WriteString(&l, piece); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"opt/hostedtoolcache/x", "opt/hostedtoolcache/x/line\nend"}; !slices.Equal(l.names, want) || l.err != nil {
		t.Errorf("listed %q, %v", l.names, l.err)
	}
	for range 3 {
		_, _ = io.WriteString(&l, strings.Repeat("x", 4000))
	}
	if sallyport.ErrorCode(l.err) != sallyport.CodeInvalid {
		t.Errorf("an endless name: %v", l.err)
	}
}

// TestCacheInRealRoom packs and unpacks where jobs do, with the tar of this host.
func TestCacheInRealRoom(t *testing.T) {
	t.Parallel()
	box := realSandbox(t)
	yard := newFakeYard()
	do := func(yaml string) ended {
		t.Helper()
		r := newTestRunner(t, yard, box, func(c *Config) { c.Path = "" })
		r.layout = newLayout
		tr := trial{yaml: steps(yaml), ttl: time.Minute}
		yard.leases <- tr.lease(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		var e ended
		select {
		case e.JobResult = <-yard.result:
		case err := <-done:
			t.Fatalf("Run ended: %v", err)
		case <-time.After(2 * time.Minute):
			t.Fatal("the job did not end")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		yard.mu.Lock()
		defer yard.mu.Unlock()
		e.lines = decodeLog(t, yard.log)
		yard.log = nil
		if e.Conclusion != sallyport.Success {
			t.Fatalf("%s: %s\n%s", e.Conclusion, e.Cause, e.all())
		}
		return e
	}
	const use = "- { uses: actions/cache@v4, with: { path: \"~/.cache/x\\n/srv/tool\\ndeps\", key: k } }\n"
	do(use + "- run: mkdir -p ~/.cache/x /srv/tool deps; echo 1 > ~/.cache/x/a; echo 2 > /srv/tool/b; echo 3 > deps/c; ln -s /srv/tool deps/l; chown 5:5 deps/c; chmod 4755 deps/c\n")
	e := do(use + "- run: cat ~/.cache/x/a /srv/tool/b deps/l/b deps/c; stat -c %u:%a deps/c\n")
	if !strings.Contains(e.text(), "1\n2\n2\n3\n0:755\n") {
		t.Errorf("got\n%s", e.all())
	}
}

func BenchmarkCacheArchive(b *testing.B) {
	p := paths(b, "deps")
	body := make([]byte, 1<<20)
	for i := range body {
		body[i] = byte(i * i >> 3)
	}
	var entries []tarEntry
	for i := range 32 {
		entries = append(entries, tarEntry{name: fmt.Sprintf("home/runner/work/hello/hello/deps/%d", i), body: string(body)})
	}
	raw := makeTar(b, entries...)
	b.Run("pack", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			if err := p.pack(io.Discard, bytes.NewReader(raw)); err != nil {
				b.Fatal(err)
			}
		}
	})
	var packed bytes.Buffer
	if err := p.pack(&packed, bytes.NewReader(raw)); err != nil {
		b.Fatal(err)
	}
	b.Run("unpack", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			if err := p.unpack(io.Discard, bytes.NewReader(packed.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
}
