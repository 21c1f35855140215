package egress

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const full = `# what the jobs reach
network: registries
observe: true
allow:
  - host: api.example.com
  - host: "*.cdn.example.com"
    ports: [8443, 443]
  - host: api.github.com
    methods: [GET]
    paths: [/repos/acme/]
    jobs: [release]
credentials:
  - name: npm-publish
    secret: NPM_TOKEN
    kind: bearer
    host: packages.example.com
    methods: [PUT]
    paths: [/@acme/]
    environments: [production]
  - name: db
    secret: DB_PASSWORD
    kind: postgres
    user: ci
    host: db.example.com
    database: shop
    role: reader
packages:
  min_age: 3d
  allow:
    - purl: pkg:npm/%40acme/*
      reason: our own
      until: 2027-06-30
`

func TestParse(t *testing.T) {
	t.Parallel()
	r, diags := Parse([]byte(full))
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	if r.Level != sallyport.EgressRegistries || !r.Observe || len(r.Rules) != 3 || len(r.Credentials) != 2 {
		t.Fatalf("got %+v", r)
	}
	if cdn := r.Rules[1]; cdn.Host != "*.cdn.example.com" || cdn.Ports[0] != 443 || cdn.Ports[1] != 8443 || Rule(cdn.Pos) != ".sallyport/egress.yaml:6" {
		t.Errorf("got %+v", cdn)
	}
	if c := r.Credentials[1]; CredentialPort(c) != 5432 || c.Database != "shop" || c.Role != "reader" || c.User != "ci" {
		t.Errorf("got %+v", c)
	}
	p := r.Packages
	if *p.MinAgeHours != 72 || p.Allow[0].PURL != "pkg:npm/%40acme/*" || !p.Allow[0].Until.Equal(time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("got %+v", p)
	}
}

// Every error says where, what, and how to mend it.
func TestParseErrors(t *testing.T) {
	t.Parallel()
	rule := func(s string) string { return "network: listed\nallow:\n  - " + s + "\n" }
	cred := func(s string) string {
		return "network: listed\ncredentials:\n  - {name: a, secret: A, host: h.example.com, " + s + "}\n"
	}
	pkg := func(s string) string { return "network: listed\npackages:\n  allow:\n    - " + s + "\n" }
	cases := []struct{ name, src, want string }{
		{"empty", "", "1:1: the file is empty; write network: none, listed or registries"},
		{"only a comment", "# nothing\n", "1:1: the file is empty"},
		{"not YAML", "network: [", "1:1: this is not YAML: did not find"},
		{"a list", "- network", "1:1: the file must be a map of allow, credentials, network, observe or packages"},
		{"two documents", "network: none\n---\nnetwork: none\n", "2:1: a second document begins"},
		{"alias", "network: listed\nallow: &a\n  - host: a.example.com\ncredentials: *a\n", "2:8: anchors and aliases"},
		{"tag", "network: !!str none\n", "1:10: tags are not allowed"},
		{"deep", "network: [[[[[[[[[[a]]]]]]]]]]\n", "nested too deeply"},
		{"too large", "network: none\n#" + strings.Repeat("x", MaxBytes), "1:1: the file is larger"},
		{"no level", "observe: true\n", "1:1: network: is missing"},
		{"unknown level", "network: all\n", `1:10: network: "all" is not a level; write none, listed or registries`},
		{"unknown key", "network: none\nalow: []\n", `2:1: the file has no key "alow"; it may have allow, credentials, network, observe or packages`},
		{"key twice", "network: none\nnetwork: listed\n", "2:1: network stands twice"},
		{"observe", "network: none\nobserve: maybe\n", `2:10: "maybe" is neither true nor false`},
		{"observe in quotes", "network: none\nobserve: 'true'\n", `2:10: "true" is neither true nor false`},
		{"rules without a network", "network: none\nallow:\n  - host: a.example.com\n", "3:3: nothing of this can be reached with network: none"},
		{"credentials without a network", "network: none\ncredentials:\n  - {name: a, secret: A, kind: bearer, host: h.example.com}\n", "3:3: nothing of this can be reached"},
		{"no list", "network: listed\nallow: {host: a.example.com}\n", "2:8: allow: must be a list"},
		{"empty list", "network: listed\nallow: []\n", "2:8: allow: is empty"},
		{"no host", rule("ports: [443]"), "3:5: a rule needs host:"},
		{"unknown rule key", rule("{host: a.example.com, port: 443}"), `3:27: a rule has no key "port"; it may have host, jobs, methods, paths or ports`},
		{"null host", rule("host:"), "host: needs a value"},

		{"star alone", rule(`host: "*"`), "3:11: host: \"*\": a star stands for whole names only"},
		{"star in a name", rule(`host: "api*.example.com"`), "a star stands for whole names only"},
		{"two stars", rule(`host: "*.*.example.com"`), "a star stands for whole names only"},
		{"wildcard of a suffix", rule(`host: "*.com"`), "everybody can register names below com"},
		{"wildcard of a longer suffix", rule(`host: "*.co.uk"`), "everybody can register names below co.uk"},
		{"wildcard of a hoster", rule(`host: "*.github.io"`), "everybody can register names below github.io"},
		{"wildcard of an unknown suffix", rule(`host: "*.internal"`), "everybody can register names below internal"},
		{"IPv4", rule("host: 192.0.2.1"), "3:11: host: \"192.0.2.1\": rules name hosts"},
		{"IPv6", rule(`host: "[2001:db8::1]"`), "rules name hosts"},
		{"IPv4 as one number", rule("host: 3221225985"), "a name that ends in a number is read as an address"},
		{"IPv4 in hexadecimal", rule("host: 0xc0.0.2.0x1"), "a name that ends in a number is read as an address"},
		{"URL", rule("host: https://api.example.com/v1"), "this is an address; write the host alone"},
		{"path", rule("host: api.example.com/v1"), "without /; paths stand under paths:"},
		{"port in the host", rule("host: api.example.com:8443"), "its port as ports: [8443]"},
		{"user", rule("host: me@example.com"), "without @"},
		{"upper case", rule("host: API.example.com"), "write it in lower case: api.example.com"},
		{"last dot", rule("host: api.example.com."), "without the last dot"},
		{"homograph", rule("host: аpple.com"), "write xn--pple-43d.com if that is the host you mean"},
		{"IDN", rule("host: bücher.example"), "write xn--bcher-kva.example if"},
		{"no name of any registry", rule("host: a\u200d.example"), "no registry gives out"},
		{"false punycode", rule("host: xn--a.example"), "the part xn--a stands for no name"},
		{"localhost", rule("host: localhost"), "the job's own room"},
		{"empty label", rule("host: a..example.com"), "a part between dots is empty"},
		{"long label", rule("host: " + strings.Repeat("a", 64) + ".com"), "longer than 63"},
		{"long name", rule("host: " + strings.Repeat("a.", 130) + "com"), "1 to 253 characters"},
		{"hyphen", rule("host: -a.example.com"), "begins or ends with a hyphen"},
		{"space", rule(`host: "a b.example.com"`), "letters, digits, hyphens and dots"},
		{"line end", rule(`host: "a.example.com\n"`), "holds a line end"},

		{"port 0", rule("{host: a.example.com, ports: [0]}"), `"0" is not a port`},
		{"port too high", rule("{host: a.example.com, ports: [65536]}"), `"65536" is not a port; write a number from 1 to 65535`},
		{"port in octal", rule("{host: a.example.com, ports: [0443]}"), `"0443" is not a port`},
		{"port twice", rule("{host: a.example.com, ports: [443, 443]}"), "443 stands twice"},
		{"port name", rule("{host: a.example.com, ports: [https]}"), `"https" is not a port`},
		{"method in lower case", rule("{host: a.example.com, methods: [get]}"), "write it in capitals: GET"},
		{"no method", rule("{host: a.example.com, methods: [GTE]}"), `"GTE" is no method of HTTP`},
		{"CONNECT", rule("{host: a.example.com, methods: [CONNECT]}"), "opens a tunnel"},
		{"TRACE", rule("{host: a.example.com, methods: [trace]}"), "sends credentials back"},
		{"method twice", rule("{host: a.example.com, methods: [GET, GET]}"), "stands twice"},
		{"path without slash", rule("{host: a.example.com, paths: [repos]}"), "must begin with a slash; write /repos"},
		{"every path", rule("{host: a.example.com, paths: [/]}"), "is every path; leave the key out"},
		{"star in a path", rule("{host: a.example.com, paths: ['/a/*']}"), "has no stars"},
		{"query", rule("{host: a.example.com, paths: ['/a?b=c']}"), "only the path is compared"},
		{"dots", rule("{host: a.example.com, paths: [/a/../b/]}"), "dot part"},
		{"empty part", rule("{host: a.example.com, paths: [/a//b]}"), "empty part"},
		{"encoded", rule("{host: a.example.com, paths: [/a%2fb]}"), "percent sign"},
		{"path below another", rule("{host: a.example.com, paths: [/a/b, /a/]}"), `"/a/b" is below "/a/" already`},
		{"job", rule("{host: a.example.com, jobs: ['a b']}"), "write the job's key"},

		{"covered", "network: listed\nallow:\n  - host: '*.example.com'\n  - host: a.example.com\n", "4:5: a.example.com lets through nothing that line 3 (*.example.com) does not"},
		{"covered by a later one", "network: listed\nallow:\n  - host: a.example.com\n    methods: [GET]\n  - host: a.example.com\n", "3:5: a.example.com lets through nothing that line 5"},
		{"wildcard in a wildcard", "network: listed\nallow:\n  - host: '*.example.com'\n  - host: '*.a.example.com'\n", "4:5: *.a.example.com lets through nothing"},
		{"twice", "network: listed\nallow:\n  - host: a.example.com\n  - host: a.example.com\n    ports: [443]\n", "4:5: a.example.com lets through nothing that line 3"},
		{"one port", "network: listed\nallow:\n  - host: a.example.com\n  - host: a.example.com\n    ports: [22, 443]\n", "4:5: a.example.com at port 443 is let through by line 3"},
		{"paths", "network: listed\nallow:\n  - host: a.example.com\n    paths: [/a/]\n  - host: a.example.com\n    paths: [/a/b/]\n    methods: [GET]\n", "5:5: a.example.com lets through nothing that line 3"},

		{"no kind", "network: listed\ncredentials:\n  - {name: a, secret: A, host: h.example.com}\n", "3:5: a credential needs kind:"},
		{"unknown kind", cred("kind: magic"), `kind: "magic" is not one; write bearer`},
		{"kind's key missing", cred("kind: basic"), "kind: basic needs user:"},
		{"other kind's key", cred("kind: bearer, user: me"), "kind: bearer has no user:"},
		{"paths of PostgreSQL", cred("kind: postgres, user: me, paths: [/a]"), "kind: postgres has no paths:"},
		{"wildcard of a credential", "network: listed\ncredentials:\n  - {name: a, secret: A, kind: bearer, host: '*.h.example.com'}\n", "a credential goes to one host"},
		{"header", cred("kind: header, header: 'X Y'"), "write a header's name"},
		{"header of the message", cred("kind: header, header: Host"), "says how a message is sent"},
		{"value instead of a name", "network: listed\ncredentials:\n  - {name: a, secret: 'ghp-123', kind: bearer, host: h.example.com}\n", "write the name of the secret"},
		{"name twice", "network: listed\ncredentials:\n  - {name: a, secret: A, kind: bearer, host: h.example.com}\n  - {name: a, secret: B, kind: bearer, host: g.example.com}\n", "4:5: a credential with the name a stands in line 3"},
		{"use twice", "network: listed\ncredentials:\n  - {name: a, secret: A, kind: bearer, host: h.example.com}\n  - {name: b, secret: A, kind: bearer, host: h.example.com, paths: [/x/]}\n", "4:5: credential b lends the same secret for the same use as a in line 3"},

		{"age", "network: none\npackages: {min_age: soon}\n", "write hours or days"},
		{"age of years", "network: none\npackages: {min_age: 999d}\n", "more than a year"},
		{"no reason", pkg("purl: pkg:npm/a"), "an allowed package needs reason:"},
		{"no purl", pkg("{purl: left-pad, reason: x}"), "is no package URL"},
		{"scope", pkg("{purl: 'pkg:npm/@acme/a', reason: x}"), "write the @ of a scope as %40"},
		{"type", pkg("{purl: 'pkg:gem/a', reason: x}"), "knows no packages of type gem"},
		{"whole registry", pkg("{purl: 'pkg:npm/*', reason: x}"), "is no package URL"},
		{"star and version", pkg("{purl: 'pkg:npm/a/*@1', reason: x}"), "a version belongs to one package"},
		{"no date", pkg("{purl: 'pkg:npm/a', reason: x, until: soon}"), "write the last day"},
		{"package twice", "network: none\npackages:\n  allow:\n    - {purl: 'pkg:npm/a', reason: x}\n    - {purl: 'pkg:npm/a', reason: y}\n", "5:7: pkg:npm/a is allowed in line 4 already"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, diags := Parse([]byte(c.src))
			for _, d := range diags {
				if d.Severity == "error" && strings.Contains(d.String(), c.want) && strings.HasPrefix(d.String(), File+":") {
					return
				}
			}
			t.Errorf("got %v, want %q\n%s", diags, c.want, c.src)
		})
	}
}

// Rules that only look alike are not refused.
func TestParseAccepts(t *testing.T) {
	t.Parallel()
	for _, src := range []string{
		"network: none\n",
		"network: listed\nallow:\n  - host: example.com\n  - host: '*.example.com'\n",
		"network: listed\nallow:\n  - {host: a.example.com, methods: [GET]}\n  - {host: a.example.com, jobs: [release]}\n",
		"network: listed\nallow:\n  - {host: a.example.com, paths: [/a]}\n  - {host: a.example.com, paths: [/ab]}\n",
		"network: listed\nallow:\n  - host: gitea\n  - host: xn--bcher-kva.example\n  - host: my_bucket.s3.amazonaws.com\n",
		"network: registries\ncredentials:\n  - {name: a, secret: A, kind: bearer, host: h.example.com}\n  - {name: b, secret: A, kind: bearer, host: h.example.com, methods: [PUT]}\n",
		"network: none\npackages:\n  min_age: 0\n  allow:\n    - {purl: 'pkg:golang/example.com/acme/*', reason: ours}\n    - {purl: 'pkg:deb/debian/curl@1:7.88.1-10', reason: checked}\n",
	} {
		if _, diags := Parse([]byte(src)); len(diags) > 0 {
			t.Errorf("got %v\n%s", diags, src)
		}
	}
}

func TestLendable(t *testing.T) {
	t.Parallel()
	free := sallyport.CredentialRule{}
	named := sallyport.CredentialRule{Jobs: []string{"release"}, Environments: []string{"Production"}}
	cases := []struct {
		c        sallyport.CredentialRule
		job, env string
		guarded  bool
		tier     sallyport.Tier
		want     bool
	}{
		{free, "a", "", false, sallyport.TierProtected, true},
		{free, "a", "", false, sallyport.TierMember, false},
		{free, "a", "production", true, sallyport.TierMember, false}, // the rule names no environment
		{named, "release", "production", false, sallyport.TierProtected, true},
		{named, "release", "production", true, sallyport.TierMember, true},
		{named, "release", "production", false, sallyport.TierMember, false},
		{named, "release", "production", true, sallyport.TierUntrusted, false},
		{named, "release", "", false, sallyport.TierRelease, false},
		{named, "build", "production", true, sallyport.TierRelease, false},
	}
	for i, c := range cases {
		if got := Lendable(c.c, c.job, c.env, c.guarded, c.tier); got != c.want {
			t.Errorf("case %d: got %v", i, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("network: none\n"))
	f.Add([]byte("network: [\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		r, diags := Parse(src)
		for _, d := range diags {
			if d.Message == "" || d.Pos.Line < 1 || len(d.Message) > 8<<10 {
				t.Fatalf("a diagnostic without a place or words: %+v", d)
			}
		}
		if len(diags) > 0 {
			return
		}
		if r.Level == "" {
			t.Fatal("accepted without a level")
		}
		for _, e := range r.Rules {
			if name := strings.TrimPrefix(e.Host, "*."); !ValidHost(name) || e.Host != name && tooWide(name) {
				t.Fatalf("accepted host %q", e.Host)
			}
		}
		for _, c := range r.Credentials {
			if !ValidHost(c.Host) || c.Secret == "" || c.Name == "" {
				t.Fatalf("accepted %+v", c)
			}
		}
	})
}
