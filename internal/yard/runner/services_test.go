package runner

import (
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

func TestToolkitServer(t *testing.T) {
	t.Parallel()
	for server, want := range map[string]string{
		"http://127.0.0.1:7357":   "http://sallyport.localhost:7357",
		"http://[::1]:7357":       "http://sallyport.localhost:7357",
		"http://localhost":        "http://sallyport.localhost",
		"https://ci.example.com":  "https://ci.example.com.localhost",
		"https://CI.Example:8443": "https://ci.example.localhost:8443",
		"https://github.com":      "https://github.com",
		"https://x.ghe.com":       "https://x.ghe.com",
		"http://a.localhost:1":    "http://a.localhost:1",
		"":                        "https://sallyport.localhost",
		"%":                       "https://sallyport.localhost",
	} {
		if got := toolkitServer(server); got != want {
			t.Errorf("%q: got %q, want %q", server, got, want)
		}
	}
}

// TestServicesInRoom calls the services of a job from its room, and looks at what
// scripts and actions are told of them.
func TestServicesInRoom(t *testing.T) {
	t.Parallel()
	yard := newFakeYard()
	tr := trial{yard: yard, yaml: steps(`
- run: env | grep ACTIONS_ || echo none; exec 3<>/dev/tcp/127.0.0.1/61357; printf 'GET /nowhere HTTP/1.0\r\n\r\n' >&3; head -1 <&3
`)}
	lease := tr.lease(t)
	lease.Plan.Actions = map[string]sallyport.PlanAction{"./x": {Kind: sallyport.ActionNode}}
	r := newTestRunner(t, yard, realSandbox(t), func(c *Config) {
		c.Path = ""
		c.WorkDir += "/" + strings.Repeat("long", 25) // no socket's path is that long
	})
	if err := r.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.layout = newLayout
	r.do(t.Context(), lease)
	e := ended{JobResult: <-yard.result, lines: decodeLog(t, yard.log), yard: yard}
	if e.Conclusion != sallyport.Success || e.text() != "none\nHTTP/1.0 404 Not Found\n" {
		t.Errorf("%s\n%s", e.Conclusion, e.all())
	}
}
