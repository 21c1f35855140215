package door_test

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport/internal/yard/door"
)

// benchScripts are what a program does to a server, in the room and on the host alike. Each prints
// one number: megabytes a second, or milliseconds for one connection, its name's lookup included.
var benchScripts = map[string]string{
	"up": `import socket,time
s=socket.create_connection(("%[1]s",7777)); b=bytes(1<<18); t=time.time()
for i in range(4096): s.sendall(b)
s.shutdown(1); s.recv(1); print(1074/(time.time()-t))`,
	"down": `import socket,time
s=socket.create_connection(("%[1]s",7778)); b=bytearray(1<<18); t=time.time()
while s.recv_into(b): pass
print(1074/(time.time()-t))`,
	"connect": `import socket,time
l=[]
for i in range(300):
  t=time.time(); s=socket.create_connection(("%[1]s",7777)); s.shutdown(1); s.recv(1); s.close(); l.append(time.time()-t)
l.sort(); print(l[150]*1000)`,
}

// BenchmarkDoor compares a connection through the door with one over the host's loopback, side by
// side: what this machine does meanwhile slows both.
func BenchmarkDoor(b *testing.B) {
	w := newWorld(b)
	for port, serve := range map[int]func(io.ReadWriter){
		7777: func(c io.ReadWriter) { _, _ = io.Copy(io.Discard, c) },
		7778: func(c io.ReadWriter) {
			for buf, n := make([]byte, 1<<18), 0; n < 4096; n++ {
				if _, err := c.Write(buf); err != nil {
					return
				}
			}
		},
	} {
		ln := w.listen("bench.test", port)
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					serve(c)
				}()
			}
		}()
	}
	w.open(door.Config{Rules: table{ports: map[string][]int{"bench.test": {7777, 7778}}}})
	for _, name := range []string{"up", "down", "connect"} {
		b.Run(name, func(b *testing.B) {
			var through, direct float64
			for b.Loop() {
				got, code := w.sh("python3 -c '" + fmt.Sprintf(benchScripts[name], "bench.test") + "'")
				here, err := exec.Command("python3", "-c", fmt.Sprintf(benchScripts[name], w.hosts["bench.test"][0])).Output()
				if err != nil || code != 0 {
					b.Fatalf("in the room: %s; on the host: %v", got, err)
				}
				through, direct = through+number(b, got), direct+number(b, string(here))
			}
			unit := "MB/s"
			if name == "connect" {
				unit = "ms"
			}
			b.ReportMetric(through/float64(b.N), "door-"+unit)
			b.ReportMetric(direct/float64(b.N), "direct-"+unit)
			b.ReportMetric(0, "ns/op")
		})
	}
}

func number(b *testing.B, text string) (n float64) {
	b.Helper()
	if _, err := fmt.Sscan(strings.TrimSpace(text), &n); err != nil {
		b.Fatalf("%q: %v", text, err)
	}
	return n
}

// BenchmarkOpen is what a job pays that uses no network, beside its room's uplink.
func BenchmarkOpen(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		d, err := door.Open(door.Config{Rules: table{}, Dialer: &door.Dialer{}})
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
