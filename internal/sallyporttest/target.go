package sallyporttest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// TargetFixture is one target for a test.
type TargetFixture struct {
	// Open opens the target; called again it is the same target for a control
	// plane that was restarted. All that runs is ended by the fixture's maker.
	Open func(t *testing.T) sallyport.Target
	// Program is an executable whose main function calls ServeRelease.
	Program []byte
}

// Target checks the contract of sallyport.Target. fixture returns a new, empty
// target and ends what it runs when the test ends.
func Target(t *testing.T, fixture func(t *testing.T) TargetFixture) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, x *targetTest)
	}{
		{"blue then green", targetBlueGreen},
		{"weights", targetWeights},
		{"repeated calls", targetRepeated},
		{"restarted control plane", targetRestart},
		{"drain", targetDrain},
		{"a release that is sick", targetSick},
		{"a release that ends", targetEnds},
		{"a release that cannot be started", targetCannotStart},
		{"altered content", targetAltered},
		{"unknown deployments", targetUnknown},
		{"cancelled calls", targetCancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fx := fixture(t)
			c.test(t, &targetTest{fx: fx, target: fx.Open(t)})
		})
	}
}

type targetTest struct {
	fx     TargetFixture
	target sallyport.Target
}

// release is a deployment of the program under a name by which it answers.
func (x *targetTest) release(name string) (sallyport.Deployment, sallyport.Artifact, func() (io.ReadCloser, error)) {
	digest := sallyport.DigestOf(x.fx.Program)
	a := sallyport.Artifact{
		Name: "server", Filename: "server", Digest: digest, Size: int64(len(x.fx.Program)),
		Files: []sallyport.ArtifactFile{{Path: "server", Mode: 0o644, Size: int64(len(x.fx.Program)), Digest: digest}},
	}
	d := sallyport.Deployment{
		ID: sallyport.NewID[sallyport.DeploymentID](time.Now()), Project: "project", Environment: "production", Digest: digest,
		Spec: sallyport.EnvironmentSpec{
			Name: "production", Artifact: "server", Port: 8080, Drain: 20 * time.Second,
			Env:    []sallyport.EnvVar{{Name: releaseNameEnv, Value: name}},
			Health: sallyport.HealthSpec{Path: "/healthz"},
		},
	}
	return d, a, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.fx.Program)), nil }
}

func (x *targetTest) apply(t *testing.T, name string) sallyport.Deployment {
	t.Helper()
	d, a, open := x.release(name)
	if err := x.target.Apply(t.Context(), d, a, open); err != nil {
		t.Fatalf("apply %s: %v", name, err)
	}
	return d
}

func (x *targetTest) applyHealthy(t *testing.T, name string) sallyport.Deployment {
	t.Helper()
	d := x.apply(t, name)
	x.await(t, name+" to be healthy", func() bool { return x.check(t, d).OK })
	return d
}

func (x *targetTest) check(t *testing.T, d sallyport.Deployment) sallyport.Health {
	t.Helper()
	h, err := x.target.Check(t.Context(), d)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	if h.OK != (h.Why == "") || strings.Contains(h.Why, "\n") || h.At.IsZero() {
		t.Fatalf("health is not consistent: %+v", h)
	}
	return h
}

func (x *targetTest) shift(t *testing.T, d sallyport.Deployment, weights map[sallyport.DeploymentID]int) string {
	t.Helper()
	url, err := x.target.Shift(t.Context(), d.Project, d.Spec, weights)
	if err != nil {
		t.Fatalf("shift: %v", err)
	}
	return url
}

func (x *targetTest) list(t *testing.T) map[sallyport.DeploymentID]sallyport.Instance {
	t.Helper()
	list, err := x.target.List(t.Context())
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	m := make(map[sallyport.DeploymentID]sallyport.Instance)
	for _, in := range list {
		m[in.Deployment] = in
	}
	return m
}

func (x *targetTest) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			for id := range x.list(t) {
				out, _ := x.target.Log(context.WithoutCancel(t.Context()), id, 2000)
				t.Logf("output of %s: %s", id, out)
			}
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func targetGet(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("get %s: %v", url, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("get %s: %v", url, err)
	}
	return resp.StatusCode, string(b)
}

func wantTargetAnswer(t *testing.T, url, want string) {
	t.Helper()
	if status, body := targetGet(t, url); status != http.StatusOK || body != want {
		t.Errorf("GET %s: got %d %q, want %q", url, status, body, want)
	}
}

func wantTargetCode(t *testing.T, what string, err error, want sallyport.Code) {
	t.Helper()
	if got := sallyport.ErrorCode(err); got != want {
		t.Errorf("%s: got %v (%s), want code %s", what, err, got, want)
	}
}

func allTo(d sallyport.Deployment) map[sallyport.DeploymentID]int {
	return map[sallyport.DeploymentID]int{d.ID: 100}
}

func targetBlueGreen(t *testing.T, x *targetTest) {
	blue := x.applyHealthy(t, "blue")
	url := x.shift(t, blue, allTo(blue))
	wantTargetAnswer(t, url, "blue")
	green := x.applyHealthy(t, "green")
	wantTargetAnswer(t, url, "blue") // Apply never touches traffic
	if again := x.shift(t, green, allTo(green)); again != url {
		t.Errorf("the environment moved from %s to %s", url, again)
	}
	wantTargetAnswer(t, url, "green")
	if !x.list(t)[blue.ID].Running {
		t.Error("shifting traffic away stopped the release")
	}
	if tr, err := x.target.Traffic(t.Context(), green.ID); err != nil || tr.Requests != 1 || tr.Errors != 0 || tr.P95 <= 0 {
		t.Errorf("traffic of green: %+v, %v", tr, err)
	}
	out, err := x.target.Log(t.Context(), green.ID, 1<<20)
	if err != nil || !strings.Contains(string(out), "green is ready") {
		t.Errorf("log of green: %q, %v", out, err)
	}
	if end, err := x.target.Log(t.Context(), green.ID, 5); err != nil || len(end) != 5 || !strings.HasSuffix(string(out), string(end)) {
		t.Errorf("last 5 bytes of the log: %q, %v", end, err)
	}
	if err := x.target.Remove(t.Context(), blue); err != nil {
		t.Fatalf("remove: %v", err)
	}
	left := x.list(t)
	if _, there := left[blue.ID]; there || len(left) != 1 || !left[green.ID].Running || left[green.ID].Isolation.Level == "" {
		t.Errorf("left after the removal of blue: %+v", left)
	}
	wantTargetAnswer(t, url, "green")
	if err := x.target.Remove(t.Context(), green); err != nil {
		t.Fatalf("remove: %v", err)
	}
	if status, _ := targetGet(t, url); status != http.StatusServiceUnavailable {
		t.Errorf("status without a release: %d", status)
	}
}

func targetWeights(t *testing.T, x *targetTest) {
	blue, green := x.applyHealthy(t, "blue"), x.applyHealthy(t, "green")
	for name, weights := range map[string]map[sallyport.DeploymentID]int{
		"none": {}, "too few": {blue.ID: 99}, "too many": {blue.ID: 100, green.ID: 1}, "negative": {blue.ID: 101, green.ID: -1},
	} {
		_, err := x.target.Shift(t.Context(), blue.Project, blue.Spec, weights)
		wantTargetCode(t, "shift with "+name, err, sallyport.CodeInvalid)
	}
	url := x.shift(t, blue, map[sallyport.DeploymentID]int{blue.ID: 90, green.ID: 10})
	seen := map[string]int{}
	for range 100 {
		_, who := targetGet(t, url)
		seen[who]++
	}
	if seen["green"] < 2 || seen["green"] > 30 || seen["blue"]+seen["green"] != 100 {
		t.Errorf("of 100 requests at 90 to 10: %v", seen)
	}
	// Counters are since the last shift.
	x.shift(t, blue, allTo(blue))
	if tr, err := x.target.Traffic(t.Context(), blue.ID); err != nil || tr.Requests != 0 {
		t.Errorf("traffic right after a shift: %+v, %v", tr, err)
	}
}

func targetRepeated(t *testing.T, x *targetTest) {
	d, a, open := x.release("blue")
	for range 2 {
		if err := x.target.Apply(t.Context(), d, a, open); err != nil {
			t.Fatal(err)
		}
	}
	x.await(t, "health", func() bool { return x.check(t, d).OK })
	url := x.shift(t, d, allTo(d))
	_, instance := targetGet(t, url+"/instance")
	if err := x.target.Apply(t.Context(), d, a, open); err != nil {
		t.Fatal(err)
	}
	if again := x.shift(t, d, allTo(d)); again != url {
		t.Errorf("a repeated shift moved the environment from %s to %s", url, again)
	}
	if _, now := targetGet(t, url+"/instance"); now != instance {
		t.Error("a repeated apply started the release anew")
	}
	for range 2 {
		if err := x.target.Remove(t.Context(), d); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if left := x.list(t); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

func targetRestart(t *testing.T, x *targetTest) {
	d, a, open := x.release("blue")
	if err := x.target.Apply(t.Context(), d, a, open); err != nil {
		t.Fatal(err)
	}
	x.await(t, "health", func() bool { return x.check(t, d).OK })
	url := x.shift(t, d, allTo(d))
	_, instance := targetGet(t, url+"/instance")

	x.target = x.fx.Open(t)
	if in := x.list(t)[d.ID]; !in.Running || in.Isolation.Level == "" {
		t.Errorf("found after the restart: %+v", in)
	}
	if h := x.check(t, d); !h.OK {
		t.Errorf("health after the restart: %+v", h)
	}
	if err := x.target.Apply(t.Context(), d, a, open); err != nil {
		t.Fatal(err)
	}
	if again := x.shift(t, d, allTo(d)); again != url {
		t.Errorf("the environment moved from %s to %s", url, again)
	}
	if _, now := targetGet(t, url+"/instance"); now != instance {
		t.Error("the release did not survive the restart")
	}
	if err := x.target.Remove(t.Context(), d); err != nil {
		t.Errorf("remove after the restart: %v", err)
	}
}

// targetDrain has a connection in use while its release is replaced and removed.
func targetDrain(t *testing.T, x *targetTest) {
	blue := x.applyHealthy(t, "blue")
	url := x.shift(t, blue, allTo(blue))
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	in := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %+v, %v", resp, err)
	}
	echo := func(word string) {
		t.Helper()
		fmt.Fprintln(conn, word)
		if got, err := in.ReadString('\n'); err != nil || got != word+"\n" {
			t.Errorf("echo of %s: %q, %v", word, got, err)
		}
	}
	echo("before")
	green := x.applyHealthy(t, "green")
	x.shift(t, green, allTo(green))
	removed := make(chan error, 1)
	go func() { removed <- x.target.Remove(t.Context(), blue) }()
	wantTargetAnswer(t, url, "green")
	echo("while it is drained")
	conn.Close()
	if err := <-removed; err != nil {
		t.Errorf("remove: %v", err)
	}
}

func targetSick(t *testing.T, x *targetTest) {
	d := x.applyHealthy(t, "blue")
	url := x.shift(t, d, allTo(d))
	for range 3 {
		if status, _ := targetGet(t, url+"/fail"); status != http.StatusInternalServerError {
			t.Errorf("status %d", status)
		}
	}
	if tr, err := x.target.Traffic(t.Context(), d.ID); err != nil || tr.Requests != 3 || tr.Errors != 3 || tr.ErrorsInARow != 3 {
		t.Errorf("traffic: %+v, %v", tr, err)
	}
	targetGet(t, url+"/sicken")
	if h := x.check(t, d); h.OK || !strings.Contains(h.Why, "503") {
		t.Errorf("health: %+v", h)
	}
	d.Spec.Health.Path = "/redirect"
	if h := x.check(t, d); h.OK {
		t.Error("a redirect counts as healthy")
	}
}

func targetEnds(t *testing.T, x *targetTest) {
	d, a, open := x.release("blue")
	if err := x.target.Apply(t.Context(), d, a, open); err != nil {
		t.Fatal(err)
	}
	x.await(t, "health", func() bool { return x.check(t, d).OK })
	url := x.shift(t, d, allTo(d))
	_, instance := targetGet(t, url+"/instance")
	targetGet(t, url+"/exit")
	x.await(t, "the end to be noticed", func() bool { return !x.list(t)[d.ID].Running })
	if in := x.list(t)[d.ID]; !strings.Contains(in.Exit, "3") {
		t.Errorf("how it ended: %+v, want exit code 3", in)
	}
	if h := x.check(t, d); h.OK || !strings.Contains(h.Why, "3") {
		t.Errorf("health: %+v", h)
	}
	if status, _ := targetGet(t, url); status != http.StatusBadGateway {
		t.Errorf("status of the ended release: %d", status)
	}
	// Applied again it is started again, at the same place.
	if err := x.target.Apply(t.Context(), d, a, open); err != nil {
		t.Fatal(err)
	}
	x.await(t, "health", func() bool { return x.check(t, d).OK })
	x.await(t, "traffic", func() bool { status, _ := targetGet(t, url); return status == http.StatusOK })
	if _, now := targetGet(t, url+"/instance"); now == instance {
		t.Error("it was not started again")
	}
}

func targetCannotStart(t *testing.T, x *targetTest) {
	d, a, open := x.release("blue")
	d.Spec.Command = []string{"./no-such-file"}
	wantTargetCode(t, "a command that is not there", x.target.Apply(t.Context(), d, a, open), sallyport.CodeInvalid)
	d.Spec.Command, d.Spec.Port = nil, 0
	wantTargetCode(t, "no port", x.target.Apply(t.Context(), d, a, open), sallyport.CodeInvalid)
	if err := x.target.Remove(t.Context(), d); err != nil {
		t.Errorf("remove: %v", err)
	}
	if left := x.list(t); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

func targetAltered(t *testing.T, x *targetTest) {
	d, a, _ := x.release("blue")
	broken := errors.New("the seal is broken")
	for name, content := range map[string]io.Reader{
		"a changed byte":  io.MultiReader(strings.NewReader("\x00"), bytes.NewReader(x.fx.Program[1:])),
		"a missing byte":  bytes.NewReader(x.fx.Program[1:]),
		"an added byte":   io.MultiReader(bytes.NewReader(x.fx.Program), strings.NewReader("\x00")),
		"no byte":         strings.NewReader(""),
		"a reader's word": io.MultiReader(bytes.NewReader(x.fx.Program), &targetFailing{broken}),
	} {
		err := x.target.Apply(t.Context(), d, a, func() (io.ReadCloser, error) { return io.NopCloser(content), nil })
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if _, bad := content.(*targetFailing); !bad && !errors.Is(err, broken) {
			wantTargetCode(t, name, err, sallyport.CodeInvalid)
		}
	}
	other := a
	other.Digest = sallyport.DigestOf(nil)
	err := x.target.Apply(t.Context(), d, other, func() (io.ReadCloser, error) { return nil, errors.New("must not be opened") })
	wantTargetCode(t, "an artifact of another digest", err, sallyport.CodeInvalid)
	if left := x.list(t); len(left) != 0 {
		t.Errorf("left of what was refused: %+v", left)
	}
}

type targetFailing struct{ err error }

func (f *targetFailing) Read([]byte) (int, error) { return 0, f.err }

func targetUnknown(t *testing.T, x *targetTest) {
	d, a, open := x.release("blue")
	_, err := x.target.Check(t.Context(), d)
	wantTargetCode(t, "check", err, sallyport.CodeNotFound)
	_, err = x.target.Log(t.Context(), d.ID, 10)
	wantTargetCode(t, "log", err, sallyport.CodeNotFound)
	_, err = x.target.Traffic(t.Context(), d.ID)
	wantTargetCode(t, "traffic", err, sallyport.CodeNotFound)
	_, err = x.target.Shift(t.Context(), d.Project, d.Spec, allTo(d))
	wantTargetCode(t, "shift", err, sallyport.CodeNotFound)
	if err := x.target.Remove(t.Context(), d); err != nil {
		t.Errorf("remove: %v", err)
	}
	for _, id := range []sallyport.DeploymentID{"", "..", "../../etc", "a/b", "A", "a\x00"} {
		d.ID = id
		wantTargetCode(t, fmt.Sprintf("apply %q", id), x.target.Apply(t.Context(), d, a, open), sallyport.CodeInvalid)
		wantTargetCode(t, fmt.Sprintf("remove %q", id), x.target.Remove(t.Context(), d), sallyport.CodeInvalid)
	}
}

func targetCancelled(t *testing.T, x *targetTest) {
	d, a, open := x.release("blue")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.target.Apply(gone, d, a, open); err == nil {
		t.Error("apply went on after it was cancelled")
	}
	if err := x.target.Apply(t.Context(), d, a, open); err != nil {
		t.Fatalf("apply after a cancelled one: %v", err)
	}
	x.await(t, "health", func() bool { return x.check(t, d).OK })
	if _, err := x.target.Check(gone, d); err == nil {
		t.Error("check went on after it was cancelled")
	}
}
