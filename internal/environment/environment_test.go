package environment

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

func TestParse(t *testing.T) {
	t.Parallel()
	specs, diags := Parse([]byte(`environments:
  staging:
    artifact: hello
    workflow: .github/workflows/ci.yml
    port: 8080
  production:
    artifact: hello
    workflow: .github/workflows/ci.yml
    command: [./hello, -v]
    env: {LEVEL: info, N: 3}
    port: 9090
    listen: 127.0.0.1:8443
    drain: 2s
    health: {path: /healthz, interval: 100ms, healthy: 1, startup: 5s, watch: 1s, max_errors: 2}
`))
	if len(diags) > 0 || len(specs) != 2 {
		t.Fatalf("got %v, %v", specs, diags)
	}
	if s := specs[0]; s.Name != "staging" || s.Health.Path != "/" || s.Health.Healthy != 3 || s.Drain != 10*time.Second {
		t.Errorf("defaults: %+v", s)
	}
	if s := specs[1]; s.Env[1].Name != "N" || s.Env[1].Value != "3" || s.Health.Watch != time.Second || s.Command[1] != "-v" {
		t.Errorf("got %+v", s)
	}
}

func TestParseRules(t *testing.T) {
	t.Parallel()
	specs, diags := Parse([]byte(`environments:
  a: {approval: required}
  b: {reviewers: [person/anna, team/ops], approvals: 2, wait-timer: 10m, hours: [mon-fri 09:00-17:00  UTC], refs: [main]}
  c: {wait-timer: 1h}
`))
	if len(diags) > 0 || len(specs) != 3 {
		t.Fatalf("got %v, %v", specs, diags)
	}
	if r := specs[0].EntryRules; !r.Approval || r.Votes() != 1 || !r.Holds() {
		t.Errorf("a: %+v", r)
	}
	if r := specs[1].EntryRules; !r.Approval || r.Votes() != 2 || len(r.Reviewers) != 2 || r.Wait != 10*time.Minute || r.Hours[0] != "mon-fri 09:00-17:00 UTC" || specs[1].Artifact != "" {
		t.Errorf("b: %+v", r)
	}
	if r := specs[2].EntryRules; r.Approval || r.Votes() != 0 || !r.Holds() {
		t.Errorf("c: %+v", r)
	}
}

func TestAudiences(t *testing.T) {
	t.Parallel()
	d, diags := Read([]byte("audiences: [sts.amazonaws.com, {name: vault, algorithm: ES256}]\nenvironments:\n  prod: {audiences: []}\n  test: {wait-timer: 1m}\n"))
	if len(diags) > 0 || len(d.Audiences) != 2 || d.Audiences[1] != (sallyport.Audience{Name: "vault", Algorithm: "ES256"}) {
		t.Fatalf("got %v, %v", d, diags)
	}
	if a := d.Environments[0].Audiences; a == nil || len(a) != 0 {
		t.Errorf("none: %v", a)
	}
	if a := d.Environments[1].Audiences; a != nil {
		t.Errorf("not declared: %v", a)
	}
	if d, diags := Read([]byte("audiences: [vault]\n")); len(diags) > 0 || len(d.Audiences) != 1 {
		t.Errorf("audiences alone: %v, %v", d, diags)
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	one := func(extra string) string {
		return "environments:\n  prod:\n    artifact: a\n    workflow: .github/workflows/ci.yml\n    port: 80\n" + extra
	}
	cases := []struct{ name, src, want string }{
		{"empty", "", "1:1: the file is empty"},
		{"not yaml", "environments: [", "did not find"},
		{"no map", "environments: 3", "a map of environment names"},
		{"unknown top key", "enviroments: {}\n", `1:1: unknown key "enviroments"`},
		{"unknown key", one("    colour: red\n"), `6:5: unknown key "colour"`},
		{"unknown health key", one("    health: {pth: /}\n"), `6:14: unknown key "pth"`},
		{"bad name", "environments: {Prod: {}}", "not a valid name"},
		{"twice", one("  prod:\n    artifact: b\n"), ""},
		{"no artifact", "environments: {prod: {port: 1}}", "artifact:"},
		{"bad port", "environments: {prod: {artifact: a, workflow: .github/workflows/x.yml, port: 99999}}", "port:"},
		{"port is text", "environments: {prod: {artifact: a, workflow: .github/workflows/x.yml, port: web}}", "cannot unmarshal"},
		{"workflow elsewhere", "environments: {prod: {artifact: a, workflow: ../ci.yml, port: 1}}", "workflow:"},
		{"duration", one("    drain: soon\n"), `"soon" is not a duration`},
		{"negative duration", one("    drain: -1s\n"), "not a duration"},
		{"public listen", one("    listen: 0.0.0.0:80\n"), "loopback"},
		{"PORT", one("    env: {PORT: 1}\n"), "set from port"},
		{"variable name", one("    env: {A-B: 1}\n"), "not a variable's name"},
		{"approval", one("    approval: please\n"), "required is the one value"},
		{"no approvals", one("    approvals: 0\n"), "approvals: from 1"},
		{"more approvals than reviewers", one("    approvals: 2\n    reviewers: [person/anna]\n"), "2 people can never be had from 1"},
		{"reviewer of no kind", one("    reviewers: [anna]\n"), "write person/NAME or team/NAME"},
		{"reviewer of another kind", one("    reviewers: [bot/ci]\n"), "write person/NAME or team/NAME"},
		{"reviewer twice", one("    reviewers: [person/anna, person/anna]\n"), "stands twice"},
		{"hours", one("    hours: [at night]\n"), "not a window of hours"},
		{"wait for ever", one("    wait-timer: 721h\n"), "at most 720h"},
		{"audience pattern", "audiences: ['*']\n", "looks like a pattern"},
		{"audience twice", "audiences: [a, {name: a}]\n", "stands twice"},
		{"audience of no list", one("    audiences: vault\n"), "a list of at most"},
		{"audience look-alike", "audiences: [v\u0430ult]\n", "not plain ASCII"},
		{"audience without a name", "audiences: [{algorithm: ES256}]\n", "a name of 1 to"},
		{"audience's algorithm", "audiences: [{name: a, algorithm: none}]\n", "is RS256 or ES256"},
		{"audience's key", "audiences: [{nam: a}]\n", "unknown key"},
		{"alias", "a: &x 1\nenvironments: *x", "anchors and aliases"},
		{"deep", "environments: " + strings.Repeat("[", 50) + strings.Repeat("]", 50), "nested too deeply"},
		{"two documents", one("---\n{}\n"), "one document"},
		{"large", strings.Repeat("#", MaxBytes+1), "larger than"},
		{"health path", one("    health: {path: healthz}\n"), "must begin with /"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, diags := Parse([]byte(c.src))
			if len(diags) == 0 {
				t.Fatal("got no diagnostic")
			}
			if got := diags[0].String(); !strings.Contains(got, c.want) || !strings.HasPrefix(got, File) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("environments: {prod: {artifact: a, workflow: .github/workflows/x.yml, port: 1}}"))
	f.Add([]byte("a: &x [*x]"))
	f.Fuzz(func(t *testing.T, src []byte) {
		specs, diags := Parse(src)
		if len(diags) == 0 {
			for _, s := range specs {
				if why := check(s); why != "" {
					t.Fatalf("accepted %+v: %s", s, why)
				}
			}
		}
	})
}
