package egress

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

func TestMatcher(t *testing.T) {
	t.Parallel()
	rules, diags := Parse([]byte(strings.Replace(full, "observe: true", "observe: false", 1)))
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	build, release := NewMatcher(rules, "build"), NewMatcher(rules, "release")
	answers := []struct {
		name string
		got  Answer
		want Answer
	}{
		{"named", build.Connect("api.example.com", 443), Answer{Decision: sallyport.EgressAllowed, Rule: File + ":5"}},
		{"other port", build.Connect("api.example.com", 80), Answer{Decision: sallyport.EgressDenied, Reason: ReasonPort}},
		{"not named", build.Connect("example.com", 443), Answer{Decision: sallyport.EgressDenied, Reason: ReasonHost}},
		{"below", build.Connect("a.b.cdn.example.com", 8443), Answer{Decision: sallyport.EgressAllowed, Rule: File + ":6"}},
		{"the name itself", build.Connect("cdn.example.com", 443), Answer{Decision: sallyport.EgressDenied, Reason: ReasonHost}},
		{"looks like it", build.Connect("xcdn.example.com", 443), Answer{Decision: sallyport.EgressDenied, Reason: ReasonHost}},
		{"other job", build.Connect("api.github.com", 443), Answer{Decision: sallyport.EgressDenied, Reason: ReasonHost}},
		{"intercepted", release.Connect("api.github.com", 443), Answer{Decision: sallyport.EgressAllowed, Rule: File + ":8", Intercept: true}},
		{"request", release.Request("api.github.com", 443, "GET", "/repos/acme/x"), Answer{Decision: sallyport.EgressAllowed, Rule: File + ":8", Intercept: true}},
		{"other method", release.Request("api.github.com", 443, "POST", "/repos/acme/x"), Answer{Decision: sallyport.EgressDenied, Reason: ReasonMethod, Intercept: true}},
		{"other path", release.Request("api.github.com", 443, "GET", "/repos/other/x"), Answer{Decision: sallyport.EgressDenied, Reason: ReasonPath, Intercept: true}},
		{"dots", release.Request("api.github.com", 443, "GET", "/repos/acme/%2e%2e/other"), Answer{Decision: sallyport.EgressDenied, Reason: ReasonPath, Intercept: true}},
		{"lent", build.Request("packages.example.com", 443, "PUT", "/@acme%2fpkg"), Answer{Decision: sallyport.EgressAllowed, Rule: File + ":13", Intercept: true}},
		{"not lent for that", build.Request("packages.example.com", 443, "GET", "/@acme/pkg"), Answer{Decision: sallyport.EgressDenied, Reason: ReasonMethod, Intercept: true}},
		{"database", build.Connect("db.example.com", 5432), Answer{Decision: sallyport.EgressAllowed, Rule: File + ":20", Intercept: true}},
		{"HTTP to a database", build.Request("db.example.com", 5432, "GET", "/"), Answer{Decision: sallyport.EgressDenied, Reason: ReasonMethod, Intercept: true}},
		{"question", build.Name("packages.example.com"), Answer{Decision: sallyport.EgressAllowed, Rule: File + ":13"}},
		{"question for nothing", build.Name("evil.example"), Answer{Decision: sallyport.EgressDenied, Reason: ReasonHost}},
	}
	for _, a := range answers {
		if a.got != a.want {
			t.Errorf("%s: got %+v, want %+v", a.name, a.got, a.want)
		}
	}
	rules.Observe = true
	if a := NewMatcher(rules, "build").Connect("evil.example", 443); a != (Answer{Decision: sallyport.EgressObserved, Reason: ReasonHost}) {
		t.Errorf("observed: got %+v", a)
	}
	rules.Broken = "line 3"
	if a := NewMatcher(rules, "build").Connect("api.example.com", 443); a.Decision != sallyport.EgressDenied || a.Reason != ReasonLevel {
		t.Errorf("broken rules: got %+v", a)
	}
	if a := NewMatcher(sallyport.EgressRules{Observe: true, Rules: rules.Rules}, "build").Name("api.example.com"); a.Decision != sallyport.EgressDenied {
		t.Errorf("rules without a level: got %+v", a)
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	if got := Canonical("API.Example.COM."); got != "api.example.com" {
		t.Errorf("got %q", got)
	}
}

func TestPlainPath(t *testing.T) {
	t.Parallel()
	cases := []struct {
		in, want string
		ok       bool
	}{
		{"/", "/", true}, {"/a/b", "/a/b", true}, {"/a/", "/a/", true}, {"/@acme%2fpkg", "/@acme/pkg", true}, {"/a%20b", "/a b", true},
		{"/a..b", "/a..b", true}, {"/..a", "/..a", true},
		{"", "", false}, {"*", "", false}, {"a", "", false}, {"//a", "", false}, {"/a//b", "", false}, {"/a/./b", "", false}, {"/a/../b", "", false},
		{"/a/..", "", false}, {"/a/%2e%2e/b", "", false}, {"/a/..%2fb", "", false}, {"/a/..;x/b", "", false}, {`/a\..\b`, "", false}, {"/a%5cb", "", false},
		{"/a%00", "", false}, {"/a%0ab", "", false}, {"/a%252e%252e", "", false}, {"/a%zz", "", false},
	}
	for _, c := range cases {
		if got, ok := PlainPath(c.in); got != c.want || ok != c.ok {
			t.Errorf("%q: got %q, %v", c.in, got, ok)
		}
	}
}

// The matcher agrees with one that is written as the documentation reads.
func TestMatcherAgainstNaive(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(of []string) string { return of[rng.IntN(len(of))] }
	some := func(of []string) []string {
		var out []string
		for _, w := range of {
			if rng.IntN(3) == 0 {
				out = append(out, w)
			}
		}
		return out
	}
	hosts := []string{"a.example.com", "b.example.com", "x.a.example.com", "example.com", "y.x.a.example.com", "aexample.com"}
	patterns := append(slices.Clone(hosts), "*.example.com", "*.a.example.com")
	methods, jobs := []string{"GET", "PUT", "POST"}, []string{"build", "test"}
	prefixes, paths := []string{"/a/", "/b", "/a/c"}, []string{"/a/", "/a", "/b", "/b/c", "/bc", "/a/c/d", "/a/%2e%2e/b"}
	allowed := 0
	for range 4000 {
		rules := sallyport.EgressRules{Level: sallyport.EgressListed, Observe: rng.IntN(4) == 0}
		for i := range rng.IntN(5) {
			r := sallyport.EgressRule{Host: pick(patterns), Methods: some(methods), Paths: some(prefixes), Jobs: some(jobs), Pos: sallyport.Pos{Line: i + 1}}
			if rng.IntN(2) == 0 {
				r.Ports = []int{80, 443}[rng.IntN(2):]
			}
			rules.Rules = append(rules.Rules, r)
		}
		for i := range rng.IntN(2) {
			rules.Credentials = append(rules.Credentials, sallyport.CredentialRule{Kind: sallyport.CredentialBearer, Host: pick(hosts), Methods: some(methods), Paths: some(prefixes), Jobs: some(jobs), Pos: sallyport.Pos{Line: 10 + i}})
		}
		host, port, job, method, path := pick(hosts), []int{80, 443}[rng.IntN(2)], pick(jobs), pick(methods), pick(paths)
		m := NewMatcher(rules, job)
		naiveName, naiveConnect, naiveIntercept, naiveRequest := naive(rules, host, port, job, method, path)
		name, connect, request := m.Name(host), m.Connect(host, port), m.Request(host, port, method, path)
		where := fmt.Sprintf("%+v\n%s:%d job %s, %s %s", rules, host, port, job, method, path)
		for _, c := range []struct {
			what string
			a    Answer
			want bool
		}{{"name", name, naiveName}, {"connect", connect, naiveConnect}, {"request", request, naiveRequest}} {
			if got := c.a.Decision == sallyport.EgressAllowed; got != c.want {
				t.Fatalf("%s: got %+v, want allowed %v\n%s", c.what, c.a, c.want, where)
			}
			if c.want != (c.a.Rule != "") || c.want == (c.a.Reason != "") || !c.want && (c.a.Decision == sallyport.EgressObserved) != rules.Observe {
				t.Fatalf("%s: got %+v\n%s", c.what, c.a, where)
			}
		}
		if connect.Intercept != naiveIntercept || request.Intercept != naiveIntercept {
			t.Fatalf("intercept: got %v and %v, want %v\n%s", connect.Intercept, request.Intercept, naiveIntercept, where)
		}
		if naiveRequest {
			allowed++
		}
	}
	if allowed < 100 {
		t.Errorf("only %d requests were allowed: the cases say little", allowed)
	}
}

// naive reads: a rule lets a job reach a host at its ports, and of a request what has its methods
// and paths; none are all. The door must read requests where a credential is lent, and where
// every rule that fits has methods or paths.
func naive(rules sallyport.EgressRules, host string, port int, job, method, path string) (name, connect, intercept, request bool) {
	fits, free, lends := 0, 0, 0
	try := func(pattern string, ports []int, methods, paths, jobs []string, lent bool) {
		isHost := pattern == host || pattern[0] == '*' && strings.HasSuffix(host, pattern[1:])
		if !isHost || len(jobs) > 0 && !slices.Contains(jobs, job) {
			return
		}
		name = true
		if !slices.Contains(ports, port) {
			return
		}
		fits, connect = fits+1, true
		if lent {
			lends++
		} else if len(methods) == 0 && len(paths) == 0 {
			free++
		}
		okPath := len(paths) == 0
		for _, p := range paths {
			if !strings.Contains(path, "%2e") && (path == p || strings.HasPrefix(path, strings.TrimSuffix(p, "/")+"/")) {
				okPath = true
			}
		}
		if okPath && (len(methods) == 0 || slices.Contains(methods, method)) {
			request = true
		}
	}
	for _, r := range rules.Rules {
		ports := r.Ports
		if ports == nil {
			ports = []int{443}
		}
		try(r.Host, ports, r.Methods, r.Paths, r.Jobs, false)
	}
	for _, c := range rules.Credentials {
		methods := c.Methods
		if methods == nil {
			methods = []string{"GET", "HEAD"}
		}
		try(c.Host, []int{443}, methods, c.Paths, c.Jobs, true)
	}
	return name, connect, lends > 0 || fits > 0 && free == 0, request
}

func BenchmarkConnect(b *testing.B) {
	var rules sallyport.EgressRules
	rules.Level = sallyport.EgressListed
	for i := range maxRules {
		rules.Rules = append(rules.Rules, sallyport.EgressRule{Host: fmt.Sprintf("h%d.example.com", i)})
	}
	m := NewMatcher(rules, "build")
	for b.Loop() {
		m.Connect("h499.example.com", 443)
	}
}
