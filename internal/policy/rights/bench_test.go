package rights

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// The size that decisions are measured at: 200 policies, 5,000 entities.
func city(b *testing.B) (*Set, *World) {
	b.Helper()
	entities := []Entity{Instance()}
	var text strings.Builder
	for p := range 60 {
		project := fmt.Sprintf("p%d", p)
		entities = append(entities, Project(project))
		for _, e := range []string{"dev", "staging", "production"} {
			entities = append(entities, Environment(project, e))
			for s := range 11 {
				entities = append(entities, Secret(project, e, fmt.Sprintf("k%d", s), sallyport.TierProtected))
			}
			pipe := Pipeline(project, e+".yml", sallyport.DigestOf([]byte(project)), "protected", sallyport.TierProtected)
			entities = append(entities, pipe)
			for j := range 10 {
				entities = append(entities, Job(fmt.Sprintf("%s-%s-%d", project, e, j), pipe.UID, sallyport.TierProtected, EnvironmentUID(project, e)))
			}
			fmt.Fprintf(&text, "permit (principal in %s, action == Action::\"use\", resource in %s) when { context.at < datetime(\"2030-01-01\") };\n", pipe.UID, EnvironmentUID(project, e))
		}
	}
	for t := range 40 {
		entities = append(entities, Team(fmt.Sprint(t)))
	}
	for p := range 760 {
		entities = append(entities, Person(fmt.Sprint(p), Of(TypeTeam, fmt.Sprint(p%40))))
	}
	for t := range 13 {
		fmt.Fprintf(&text, "permit (principal in Team::\"%d\", action in [Action::\"read\", Action::\"deploy\"], resource in Project::\"p%d\");\n", t, t)
	}
	for f := range 4 {
		fmt.Fprintf(&text, "forbid (principal, action, resource in Environment::\"p%d/production\") when { context.at > datetime(\"2031-01-01\") };\n", f*7)
	}
	w, err := NewWorld(entities)
	if err != nil {
		b.Fatal(err)
	}
	s := compile(b, text.String())
	if len(s.all) != 200 || len(w.uids) < 4900 {
		b.Fatalf("%d policies, %d entities", len(s.all), len(w.uids))
	}
	return s, w
}

// cpu reports processor time: the machine may be busy with other things.
func cpu(b *testing.B) func() {
	b.Helper()
	spent := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := spent()
	return func() { b.ReportMetric(float64(spent()-before)/float64(b.N), "cpu-ns/op") }
}

func BenchmarkDecide(b *testing.B) {
	s, w := city(b)
	for name, c := range map[string]struct {
		r    Request
		want bool
	}{
		"allow":             {Request{Principal: Of(TypeJob, "p7-production-3"), Action: Action("use"), Resource: SecretUID("p7", "production", "k4"), At: noon}, true},
		"other environment": {Request{Principal: Of(TypeJob, "p7-staging-3"), Action: Action("use"), Resource: SecretUID("p7", "production", "k4"), At: noon}, false},
		"person":            {Request{Principal: Of(TypePerson, "47"), Action: Action("deploy"), Resource: EnvironmentUID("p7", "staging"), At: noon}, true},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			defer cpu(b)()
			for b.Loop() {
				if s.Decide(w, c.r).Allowed != c.want {
					b.Fatal("decided wrong")
				}
			}
		})
	}
}

// Who of 10,000 principals can use which of 1,000 production secrets, all of them:
// ten million requests.
func BenchmarkCompare(b *testing.B) {
	for name, teams := range map[string]int{"exact": 0, "everybody in one pipeline": 1} {
		b.Run(name, func(b *testing.B) {
			entities := []Entity{Instance(), Project("p"), Environment("p", "production"), Environment("p", "staging")}
			var text strings.Builder
			pipe := Pipeline("p", "ci.yml", sallyport.DigestOf(nil), "protected", sallyport.TierProtected)
			entities = append(entities, pipe)
			for s := range 1000 {
				entities = append(entities, Secret("p", "production", fmt.Sprint(s), sallyport.TierProtected))
				fmt.Fprintf(&text, "permit (principal == Job::\"%d\", action == Action::\"use\", resource == Secret::\"p/production/%d\");\n", s*7%10_000, s)
			}
			if teams > 0 {
				fmt.Fprintf(&text, "permit (principal in %s, action == Action::\"use\", resource in Environment::\"p/production\") when { context.at < datetime(\"2030-01-01\") };\n", pipe.UID)
			}
			for j := range 10_000 {
				e := EnvironmentUID("p", "production")
				if j%2 == 1 {
					e = EnvironmentUID("p", "staging")
				}
				entities = append(entities, Job(fmt.Sprint(j), pipe.UID, sallyport.TierProtected, e))
			}
			w, err := NewWorld(entities)
			if err != nil {
				b.Fatal(err)
			}
			s, none := compile(b, text.String()), compile(b, "")
			defer cpu(b)()
			for b.Loop() {
				d, err := Compare(b.Context(), none, w, s, w)
				if err != nil || d.Asked < 10_000_000 {
					b.Fatal(d.Asked, err)
				}
				for _, r := range d.Gained {
					if e, _ := w.entities[r.Principal].Attributes.Get("environment"); e != EnvironmentUID("p", "production") && r.Principal.Type == TypeJob {
						b.Fatalf("%s reaches %s", r.Principal, r.Resource)
					}
				}
				b.ReportMetric(float64(len(d.Gained)+d.More), "allowed")
				b.ReportMetric(float64(d.Asked), "requests")
			}
		})
	}
}
