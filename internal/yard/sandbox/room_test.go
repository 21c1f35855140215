package sandbox

import (
	"bytes"
	"context"
	"testing"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

func TestFirst(t *testing.T) {
	s, err := New(Config{StateDir: t.TempDir(), Runtime: "/work/main/bin/runc"})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		t0 := time.Now()
		r, err := s.Prepare(context.Background(), sallyport.RoomSpec{ID: "a"})
		if err != nil {
			t.Fatalf("%+v", err)
		}
		t1 := time.Now()
		var out bytes.Buffer
		res, err := r.Exec(context.Background(), sallyport.ExecSpec{Argv: []string{"sh", "-c", "id; ls -la / /etc/shadow; touch /usr/bin/x; cat /proc/mounts; ip addr; ps aux"}, Env: []sallyport.EnvVar{{Name: "PATH", Value: "/usr/bin:/bin"}}, Stdout: &out, Stderr: &out})
		t.Log(res, err, out.String())
		t2 := time.Now()
		if err := r.Destroy(context.Background()); err != nil {
			t.Fatal(err)
		}
		t.Log(t1.Sub(t0), t2.Sub(t1), time.Since(t2))
	}
}
