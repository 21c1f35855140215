package firewall_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

const benchPackages = 120

// distances are how long a question takes to a registry in the same building, and to one in the same country.
var distances = map[string]time.Duration{"near": time.Millisecond, "far": 20 * time.Millisecond}

// delayed answers later, as a registry at a distance would.
func delayed(h http.Handler, by time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(by)
		h.ServeHTTP(w, r)
	})
}

// proxied is a proxy that does what handle does.
func proxied(b *testing.B, handle http.HandlerFunc) string {
	s := httptest.NewServer(handle)
	b.Cleanup(s.Close)
	return s.URL
}

// BenchmarkNPMCI runs npm ci with an empty npm cache: straight to the registry, through a firewall that has seen
// nothing, and through one that has seen it all.
func BenchmarkNPMCI(b *testing.B) {
	n := &npmRegistry{base: "http://npm.test"}
	deps := map[string]string{}
	lock := map[string]any{"": map[string]any{"name": "m", "version": "1.0.0", "dependencies": deps}}
	for i := range benchPackages {
		name := fmt.Sprintf("bench-package-%d", i)
		r := n.publish(b, name, "1.0.0", old, nil)
		deps[name] = "1.0.0"
		lock["node_modules/"+name] = map[string]any{"version": "1.0.0", "resolved": tgz(name, "1.0.0"), "integrity": integrity(r.Tarball)}
	}
	manifest, err := json.Marshal(map[string]any{"name": "m", "version": "1.0.0", "dependencies": deps})
	if err != nil {
		b.Fatal(err)
	}
	locked, err := json.Marshal(map[string]any{"name": "m", "version": "1.0.0", "lockfileVersion": 3, "packages": lock})
	if err != nil {
		b.Fatal(err)
	}
	world := func(b *testing.B, by time.Duration) *world {
		w := newWorld(b)
		w.hosts["npm.test"] = delayed(n, by)
		w.add(firewall.KindNPM, "http://npm.test")
		return w
	}
	install := func(b *testing.B, proxy string, env []sallyport.EnvVar) {
		b.StopTimer()
		dir := b.TempDir()
		write(b, dir, map[string]string{"package.json": string(manifest), "package-lock.json": string(locked)})
		b.StartTimer()
		if out, err := client(b, proxy, os.DevNull, env, dir, "npm", "ci", "--no-audit", "--no-fund", "--registry=http://npm.test"); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	ways(b, world, install)
}

// BenchmarkGoModDownload does the same with go mod download and an empty module cache.
func BenchmarkGoModDownload(b *testing.B) {
	g := &goProxy{}
	requires := ""
	for i := range benchPackages {
		path := fmt.Sprintf("example.com/bench%d", i)
		g.publish(b, path, "v1.0.0", old)
		requires += "require " + path + " v1.0.0\n"
	}
	world := func(b *testing.B, by time.Duration) *world {
		w := newWorld(b)
		w.hosts["go.test"] = delayed(g, by)
		w.add(firewall.KindGo, "http://go.test")
		return w
	}
	install := func(b *testing.B, proxy string, _ []sallyport.EnvVar) {
		b.StopTimer()
		dir := b.TempDir()
		write(b, dir, map[string]string{"go.mod": "module m\n\ngo 1.20\n\n" + requires})
		b.StartTimer()
		env := []sallyport.EnvVar{{Name: "GOPROXY", Value: "http://go.test"}, {Name: "GOSUMDB", Value: "off"}, {Name: "GOMODCACHE", Value: filepath.Join(dir, "cache")}}
		if out, err := client(b, proxy, os.DevNull, env, dir, "go", "mod", "download"); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	ways(b, world, install)
}

// ways runs install the three ways in turn, so that they share what else the machine does, and reports ratios.
func ways(b *testing.B, at func(*testing.B, time.Duration) *world, install func(b *testing.B, proxy string, env []sallyport.EnvVar)) {
	for name, by := range distances {
		b.Run(name, func(b *testing.B) {
			waysAt(b, func(b *testing.B) *world { return at(b, by) }, install)
		})
	}
}

func waysAt(b *testing.B, world func(*testing.B) *world, install func(b *testing.B, proxy string, env []sallyport.EnvVar)) {
	direct := world(b)
	plain := proxied(b, func(w http.ResponseWriter, r *http.Request) { direct.hosts[r.URL.Host].ServeHTTP(w, r) })
	warm := world(b)
	warm.open()
	_, seen := newGate(b, warm.job())
	install(b, plain, nil) // so that the clients' own files are in memory
	install(b, seen, nil)
	spent := map[string]time.Duration{}
	timed := func(way, proxy string) {
		start := b.Elapsed()
		install(b, proxy, nil)
		spent[way] += b.Elapsed() - start
	}
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		fresh := world(b)
		fresh.open()
		_, cold := newGate(b, fresh.job())
		b.StartTimer()
		timed("direct", plain)
		timed("cold", cold)
		timed("warm", seen)
	}
	b.ReportMetric(float64(spent["direct"].Milliseconds())/float64(b.N), "direct-ms")
	b.ReportMetric(float64(spent["cold"])/float64(spent["direct"]), "cold/direct")
	b.ReportMetric(float64(spent["warm"])/float64(spent["direct"]), "warm/direct")
}
