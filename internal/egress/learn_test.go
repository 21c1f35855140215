package egress

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

func denied(host string, port int) sallyport.Flow {
	return sallyport.Flow{Protocol: "tls", Host: host, Port: port, Decision: sallyport.EgressDenied, Reason: ReasonHost, Count: 1}
}

func observed(host string, port int) sallyport.Flow {
	f := denied(host, port)
	f.Decision = sallyport.EgressObserved
	return f
}

func TestLearn(t *testing.T) {
	t.Parallel()
	asked := denied("dns.example.com", 0)
	asked.Protocol = "dns"
	other := denied("odd.example.com", 443)
	other.Reason = "private-address"
	raw := sallyport.Flow{Protocol: "tcp", Address: "192.0.2.1", Port: 443, Decision: sallyport.EgressDenied, Reason: "raw-ip", Count: 7}
	method := denied("gh.example.com", 443)
	method.Reason = ReasonMethod
	cases := []struct {
		name, file string
		seen       []Seen
		want       string // the file afterwards; "" for no change
		note       string
	}{
		{"nothing", "network: none\n", []Seen{{Job: "a"}}, "", ""},
		{"a new file", "", []Seen{{"a", []sallyport.Flow{observed("b.example.com", 443), observed("a.example.com", 8443)}}},
			"network: registries\nallow:\n  - host: a.example.com\n    ports: [8443]\n  - host: b.example.com\n", ""},
		{"network none", "# why\nnetwork: none # yet\n", []Seen{{"a", []sallyport.Flow{denied("a.example.com", 443)}}},
			"# why\nnetwork: listed # yet\nallow:\n  - host: a.example.com\n", ""},
		{"comments and order stay", "# top\nallow: # list\n    # first\n    - host: z.example.com # why\n      ports: [443]\n\n# about observe\nobserve: true\nnetwork: listed\n",
			[]Seen{{"a", []sallyport.Flow{observed("a.example.com", 443), observed("z.example.com", 443)}}},
			"# top\nallow: # list\n    # first\n    - host: z.example.com # why\n      ports: [443]\n    - host: a.example.com\n\n# about observe\nobserve: true\nnetwork: listed\n", "observe: true lets everything through"},
		{"asked for by name", "network: listed\n", []Seen{{"a", []sallyport.Flow{asked}}},
			"network: listed\nallow:\n  - host: dns.example.com # asked for by name; the port is a guess\n", ""},
		{"asked for by name and connected", "network: listed\n", []Seen{{"a", []sallyport.Flow{asked, observed("dns.example.com", 8443), asked}}},
			"network: listed\nallow:\n  - host: dns.example.com\n    ports: [8443]\n", ""},
		{"of one job of two", "network: listed\n", []Seen{{"a", []sallyport.Flow{denied("a.example.com", 443)}}, {"b", nil}},
			"network: listed\nallow:\n  - host: a.example.com\n    jobs: [a]\n", ""},
		{"of both", "network: listed\n", []Seen{{"a", []sallyport.Flow{denied("a.example.com", 443)}}, {"b", []sallyport.Flow{denied("a.example.com", 443), denied("a.example.com", 22)}}},
			"network: listed\nallow:\n  - host: a.example.com\n  - host: a.example.com\n    ports: [22]\n    jobs: [b]\n", ""},
		{"another port of a known host", "network: listed\nallow:\n  - host: a.example.com\n", []Seen{{"a", []sallyport.Flow{denied("a.example.com", 8443)}}},
			"network: listed\nallow:\n  - host: a.example.com\n  - host: a.example.com\n    ports: [8443]\n    jobs: [a]\n", ""},
		{"no wildcard", "network: listed\n", []Seen{{"a", []sallyport.Flow{denied("x1.cdn.example.com", 443), denied("x2.cdn.example.com", 443)}}},
			"network: listed\nallow:\n  - host: x1.cdn.example.com\n  - host: x2.cdn.example.com\n", ""},
		{"a name of digits only in part", "network: listed\n", []Seen{{"a", []sallyport.Flow{denied("1e3", 443), denied("null", 443)}}},
			"network: listed\nallow:\n  - host: \"1e3\"\n  - host: \"null\"\n", ""},
		{"refused whatever rules say", "network: listed\n", []Seen{{"a", []sallyport.Flow{other, raw}}}, "", "odd.example.com: refused (private-address), whatever rules say"},
		{"an address", "network: listed\n", []Seen{{"a", []sallyport.Flow{raw}}}, "", "192.0.2.1"},
		{"a method", "network: listed\nallow:\n  - host: gh.example.com\n    methods: [GET]\n", []Seen{{"a", []sallyport.Flow{method}}}, "", "change that rule by hand"},
		{"a rule without use", "network: listed\nallow:\n  - host: a.example.com\n", []Seen{{"a", nil}}, "", File + ":3 (a.example.com) let nothing through"},
		{"what the firewall let through", "network: registries\n", []Seen{{"a", []sallyport.Flow{{Protocol: "tls", Host: "packages.example.com", Port: 443, Decision: sallyport.EgressAllowed, Count: 1}}}}, "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := Learn([]byte(c.file), sallyport.EgressRegistries, c.seen)
			if err != nil {
				t.Fatal(err)
			}
			want := c.want
			if want == "" {
				want = c.file
			}
			if p.File != want || (p.Diff == "") != (c.want == "") {
				t.Errorf("got\n%s\nwant\n%s\ndiff\n%s", p.File, want, p.Diff)
			}
			if c.note != "" && !strings.Contains(strings.Join(p.Notes, "\n"), c.note) {
				t.Errorf("got notes %q, want %q", p.Notes, c.note)
			}
			if c.want == "" {
				return
			}
			again, err := Learn([]byte(p.File), sallyport.EgressRegistries, c.seen) // what was learned is enough
			if err != nil || again.Diff != "" {
				t.Errorf("again: %v\n%s", err, again.Diff)
			}
		})
	}
}

func TestLearnErrors(t *testing.T) {
	t.Parallel()
	seen := []Seen{{"a", []sallyport.Flow{denied("a.example.com", 443)}}}
	for _, c := range []struct{ name, file, want string }{
		{"mistake", "network: maybe\n", File + `:1:10: network: "maybe" is not a level`},
		{"brackets", "network: listed\nallow: [{host: b.example.com}]\n", File + ":2: what stands in brackets cannot be added to"},
		{"all in brackets", "{network: listed}\n", File + ":1: what stands in brackets"},
	} {
		p, err := Learn([]byte(c.file), sallyport.EgressListed, seen)
		if sallyport.ErrorCode(err) != sallyport.CodeInvalid || !strings.Contains(err.Error(), c.want) || p.Diff != "" {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestLearnDiff(t *testing.T) {
	t.Parallel()
	p, err := Learn([]byte("network: listed\nallow:\n  - host: b.example.com\n"), sallyport.EgressListed, []Seen{{"a", []sallyport.Flow{denied("a.example.com", 443)}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"--- a/" + File, "+++ b/" + File, "@@ -1,3 +1,4 @@", "+  - host: a.example.com"} {
		if !strings.Contains(p.Diff, line+"\n") {
			t.Errorf("no line %q in\n%s", line, p.Diff)
		}
	}
}

// Whatever jobs ask for, the file that is proposed is valid, keeps every line of the one
// before, and lets through what could be learned.
func FuzzLearn(f *testing.F) {
	f.Add("network: listed\n", "a.example.com", 443, "build", true)
	f.Add("# c\nallow:\n - host: a.example.com # d\n\n# e\nnetwork: registries", "b.example.com", 0, "x", false)
	f.Fuzz(func(t *testing.T, file, host string, port int, job string, watched bool) {
		fl := denied(host, port)
		if watched {
			fl = observed(host, port)
		}
		if port < 0 || port > 65535 || !jobKey.MatchString(job) {
			return
		}
		p, err := Learn([]byte(file), sallyport.EgressListed, []Seen{{job, []sallyport.Flow{fl}}})
		if err != nil || p.Diff == "" {
			return
		}
		rules, diags := Parse([]byte(p.File))
		if len(diags) > 0 {
			t.Fatalf("proposed %v\n%s", diags, p.File)
		}
		before := strings.Split(strings.TrimSuffix(file, "\n"), "\n")
		if file == "" {
			before = nil
		}
		after := strings.Split(p.File, "\n")
		for _, line := range before {
			found := false
			for len(after) > 0 && !found {
				found = after[0] == line || strings.Contains(line, "none") && strings.Contains(after[0], "listed")
				after = after[1:]
			}
			if !found {
				t.Fatalf("the line %q is gone\n%s\n---\n%s", line, file, p.File)
			}
		}
		if a := NewMatcher(rules, job).Name(Canonical(host)); a.Decision != sallyport.EgressAllowed {
			t.Fatalf("still %+v\n%s", a, p.File)
		}
	})
}

func BenchmarkLearn(b *testing.B) {
	var seen []Seen
	for i := range 50 {
		s := Seen{Job: fmt.Sprintf("j%d", i%5)}
		for j := range 200 {
			s.Flows = append(s.Flows, denied(fmt.Sprintf("h%d.example.com", j), 443))
		}
		seen = append(seen, s)
	}
	for b.Loop() {
		if _, err := Learn(nil, sallyport.EgressListed, seen); err != nil {
			b.Fatal(err)
		}
	}
}
