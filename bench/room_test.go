package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// buildStep compiles and tests with caches of its own, and tells how long that took.
func buildStep(tests string) string {
	return `export GOCACHE=$PWD/../cache.$$ GOFLAGS=-mod=vendor CGO_ENABLED=0; began=$(date +%s%N)
go vet ./... && go build -o /dev/null ./... && go test -run '` + tests + `' ./... >/dev/null
echo "took=$(( $(date +%s%N) - began ))"; rm -rf $GOCACHE
`
}

// BenchmarkBuild compiles and tests, in a room of each level and bare: the sample of the demo, and a part of
// this repository with what it depends on. "inside" is the work alone, "whole" a local run from the start of the process to
// its end: the import of the work tree, the room, the record of what ran and the result's evidence included.
func BenchmarkBuild(b *testing.B) {
	bin := program(b)
	for _, c := range []struct {
		name  string
		files func(*testing.B) map[string]string
		tests string
	}{
		{"sample", sample, "."},
		{"repository", ourselves, "^$"}, // the tests are compiled; some need more files than these
	} {
		b.Run(c.name, func(b *testing.B) {
			files, step := c.files(b), buildStep(c.tests)
			files[workflowFile] = "on: push\njobs:\n  build:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v4\n      - run: |\n          " +
				strings.ReplaceAll(strings.TrimSpace(step), "\n", "\n          ") + "\n"
			dir := repository(b, files)
			ways := []struct {
				name string
				argv []string
			}{
				{"bare", []string{"bash", "-e", "-c", step}},
				{"standard", []string{bin, "run"}},
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(bin), "runsc")); err == nil {
				ways = append(ways, ways[1])
				ways[2].name, ways[2].argv = "strong", []string{bin, "run", "--level", "strong"}
			} else {
				b.Log("no runsc beside the program: no comparison with the level strong")
			}
			inside, whole := make([]time.Duration, len(ways)), make([]time.Duration, len(ways))
			for b.Loop() {
				for i, w := range ways {
					began := time.Now()
					took := timed(b, dir, w.argv)
					inside[i], whole[i] = least(inside[i], took), least(whole[i], time.Since(began))
				}
			}
			b.ReportMetric(ms(inside[0]), "bare-ms")
			for i, w := range ways[1:] {
				b.ReportMetric(float64(inside[i+1])/float64(inside[0]), w.name+"-inside-x-bare")
				b.ReportMetric(float64(whole[i+1])/float64(whole[0]), w.name+"-whole-x-bare")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func least(have, new time.Duration) time.Duration {
	if have == 0 {
		return new
	}
	return min(have, new)
}

// timed runs a command that runs buildStep, and returns what that says of itself.
func timed(b *testing.B, dir string, argv []string) time.Duration {
	b.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%q: %v\n%s", argv, err, out)
	}
	at := bytes.LastIndex(out, []byte("took="))
	if at < 0 {
		b.Fatalf("%q does not say how long it took:\n%s", argv, out)
	}
	digits, _, _ := bytes.Cut(out[at+len("took="):], []byte("\n"))
	n, err := strconv.ParseInt(strings.TrimSpace(string(digits)), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(n)
}

// sample is the demo's project.
func sample(b *testing.B) map[string]string {
	files := tree(b, "../examples/hello", nil)
	delete(files, "vendor/modules.txt")
	files["go.mod"] = "module example.com/hello\n\ngo 1.26\n"
	return files
}

// ourselves is the root of this repository, internal/workflow and what that imports, with their dependencies.
func ourselves(b *testing.B) map[string]string {
	files := tree(b, "..", func(path string) bool {
		return !strings.Contains(path, "/") && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "internal/workflow/") || strings.HasPrefix(path, "internal/plainyaml/")
	})
	dir := b.TempDir()
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		b.Fatal(err)
	}
	sum, err := os.ReadFile("../go.sum")
	if err != nil {
		b.Fatal(err)
	}
	files["go.mod"], files["go.sum"] = string(mod), string(sum)
	for name, content := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for _, args := range [][]string{{"mod", "tidy"}, {"mod", "vendor"}} {
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GONOSUMDB=*", "GONOSUMCHECK=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("go %q: %v\n%s", args, err, out)
		}
	}
	return tree(b, dir, nil)
}

// tree reads the files under dir that keep wants, all of them if it is nil.
func tree(b *testing.B, dir string, keep func(path string) bool) map[string]string {
	b.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin"}, rel) || strings.HasSuffix(rel, ".github") {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || keep != nil && !keep(rel) {
			return nil
		}
		raw, err := os.ReadFile(path)
		files[rel] = string(raw)
		return err
	})
	if err != nil {
		b.Fatal(fmt.Errorf("read %s: %w", dir, err))
	}
	return files
}
