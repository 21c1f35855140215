package rights

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// The naive evaluator below shares nothing with the engine but names: policies
// are closures over a table of parents, all of them are asked for every request,
// in the plainest words of the rules.

type naiveWorld struct {
	parents map[UID][]UID
	env     map[UID]UID
	tier    map[UID]int
	sponsor map[UID]UID
	all     []UID
}

func (w *naiveWorld) in(u, group UID) bool {
	if u == group {
		return true
	}
	return slices.ContainsFunc(w.parents[u], func(p UID) bool { return w.in(p, group) })
}

type naiveRequest struct {
	who, what UID
	action    string
	at        time.Time
}

// outcome of a condition: it may fail too.
type outcome int

const (
	no outcome = iota
	yes
	failed
)

func truth(b bool) outcome {
	if b {
		return yes
	}
	return no
}

// condition is an expression as text and as what it means.
type condition struct {
	text    string
	means   func(*naiveWorld, naiveRequest) outcome
	context bool // asks about it
	fails   bool // can
}

type naivePolicy struct {
	forbid     bool
	text       string
	scope      func(*naiveWorld, naiveRequest) bool
	conditions []condition
}

// applies evaluates from left to right and stops at the first that is not met.
func (p naivePolicy) applies(w *naiveWorld, r naiveRequest) outcome {
	if !p.scope(w, r) {
		return no
	}
	for _, c := range p.conditions {
		if o := c.means(w, r); o != yes {
			return o
		}
	}
	return yes
}

// decide asks everything and lets a failure deny.
func naiveDecide(w *naiveWorld, policies []naivePolicy, r naiveRequest) bool {
	kind := func(types ...string) bool { return slices.Contains(types, string(r.who.Type)) }
	about := func(types ...string) bool { return slices.Contains(types, string(r.what.Type)) }
	switch r.action {
	case "read", "fetch", "push", "operate", "deploy", "secrets":
		if !kind("Person", "Bot", "Agent") || !about("Instance", "Project", "Environment") {
			return false
		}
	case "admin", "instance":
		if !kind("Person", "Bot", "Agent") || !about("Instance") || kind("Agent") && r.action == "admin" {
			return false
		}
	case "yard":
		if !kind("Runner") || !about("Instance") {
			return false
		}
	case "use":
		if !kind("Pipeline", "Job", "Service", "Environment") || !about("Secret") {
			return false
		}
	default:
		return false
	}
	if mine, ok := w.env[r.who]; ok {
		if its, ok := w.env[r.what]; ok && mine != its {
			return false
		}
	}
	if mine, ok := w.tier[r.who]; ok {
		if its, ok := w.tier[r.what]; ok && mine < its {
			return false
		}
	}
	permitted := false
	for _, p := range policies {
		switch p.applies(w, r) {
		case failed:
			return false
		case yes:
			if p.forbid {
				return false
			}
			permitted = true
		}
	}
	if permitted && r.who.Type == "Agent" {
		r.who = w.sponsor[r.who]
		return naiveDecide(w, policies, r)
	}
	return permitted
}

// chance makes worlds, policies and requests.
type chance struct{ *rand.Rand }

func one[T any](c chance, of []T) T { return of[c.IntN(len(of))] }

var moments = []time.Time{noon.AddDate(-1, 0, 0), noon, noon.AddDate(1, 0, 0)}

func (c chance) world() ([]Entity, *naiveWorld) {
	w := &naiveWorld{parents: map[UID][]UID{}, env: map[UID]UID{}, tier: map[UID]int{}, sponsor: map[UID]UID{}}
	var entities []Entity
	add := func(e Entity, parents ...UID) UID {
		entities = append(entities, e)
		w.all = append(w.all, e.UID)
		w.parents[e.UID] = parents
		return e.UID
	}
	instance := add(Instance())
	tiers := []sallyport.Tier{sallyport.TierUntrusted, sallyport.TierMember, sallyport.TierProtected, sallyport.TierRelease}
	var environments, teams, people []UID
	for _, p := range []string{"a", "b"} {
		project := add(Project(p), instance)
		for _, name := range []string{"dev", "prod"} {
			e := add(Environment(p, name), project)
			w.env[e] = e
			environments = append(environments, e)
			for s := range 2 {
				tier := one(c, tiers)
				u := add(Secret(p, name, fmt.Sprint(s), tier), e)
				w.env[u], w.tier[u] = e, tier.Rank()
			}
			u := add(Service(p, name, "web"))
			w.env[u] = e
		}
		tier := one(c, tiers)
		pipe := Pipeline(p, "ci.yml", sallyport.DigestOf([]byte(p)), "any", tier)
		w.tier[add(pipe)] = tier.Rank()
		for j := range 3 {
			tier, environment := one(c, tiers), UID{}
			if c.IntN(2) == 0 {
				environment = one(c, environments)
			}
			u := add(Job(fmt.Sprintf("%s%d", p, j), pipe.UID, tier, environment), pipe.UID)
			w.tier[u] = tier.Rank()
			if environment != (UID{}) {
				w.env[u] = environment
			}
		}
	}
	for i := range 4 {
		var up []UID
		for _, t := range teams { // only those made before: no circles
			if c.IntN(2) == 0 {
				up = append(up, t)
			}
		}
		teams = append(teams, add(Team(fmt.Sprint(i), up...), up...))
	}
	for i := range 4 {
		var up []UID
		if c.IntN(3) > 0 {
			up = append(up, one(c, teams))
		}
		people = append(people, add(Person(fmt.Sprint(i), up...), up...))
	}
	for i := range 3 {
		sponsor := one(c, people)
		w.sponsor[add(Agent(fmt.Sprint(i), sponsor))] = sponsor
	}
	add(Bot("0"))
	add(Bot("1"))
	add(Runner("0"))
	return entities, w
}

func (c chance) of(w *naiveWorld, types ...string) UID {
	for {
		if u := one(c, w.all); slices.Contains(types, string(u.Type)) {
			return u
		}
	}
}

var (
	askers  = []string{"Person", "Bot", "Agent", "Runner", "Pipeline", "Job", "Service", "Environment"}
	things  = []string{"Instance", "Project", "Environment", "Secret"}
	actions = []string{"read", "fetch", "push", "operate", "deploy", "secrets", "admin", "instance", "yard", "use"}
)

func (c chance) condition(w *naiveWorld, depth int) condition {
	if depth > 0 {
		a, b := c.condition(w, depth-1), c.condition(w, depth-1)
		both := condition{context: a.context || b.context, fails: a.fails || b.fails}
		switch c.IntN(4) {
		case 0:
			both.text = "(" + a.text + " && " + b.text + ")"
			both.means = func(w *naiveWorld, r naiveRequest) outcome {
				if o := a.means(w, r); o != yes {
					return o
				}
				return b.means(w, r)
			}
			return both
		case 1:
			both.text = "(" + a.text + " || " + b.text + ")"
			both.means = func(w *naiveWorld, r naiveRequest) outcome {
				if o := a.means(w, r); o != no {
					return o
				}
				return b.means(w, r)
			}
			return both
		case 2:
			return condition{"!(" + a.text + ")", func(w *naiveWorld, r naiveRequest) outcome {
				if o := a.means(w, r); o != failed {
					return truth(o == no)
				}
				return failed
			}, a.context, a.fails}
		}
	}
	switch c.IntN(9) {
	case 7:
		u := c.of(w, "Person", "Job")
		return condition{fmt.Sprintf("principal == %s", u), func(_ *naiveWorld, r naiveRequest) outcome { return truth(r.who == u) }, false, false}
	case 0:
		u := c.of(w, "Team")
		return condition{fmt.Sprintf("principal in %s", u), func(w *naiveWorld, r naiveRequest) outcome { return truth(w.in(r.who, u)) }, false, false}
	case 1:
		u := c.of(w, "Project", "Environment", "Instance")
		return condition{fmt.Sprintf("resource in %s", u), func(w *naiveWorld, r naiveRequest) outcome { return truth(w.in(r.what, u)) }, false, false}
	case 2:
		t := one(c, askers)
		return condition{"principal is " + t, func(w *naiveWorld, r naiveRequest) outcome { return truth(string(r.who.Type) == t) }, false, false}
	case 3:
		u := c.of(w, "Environment")
		return condition{fmt.Sprintf("(resource has environment && resource.environment == %s)", u), func(w *naiveWorld, r naiveRequest) outcome {
			return truth(w.env[r.what] == u)
		}, false, false}
	case 4:
		n := c.IntN(4)
		return condition{fmt.Sprintf("(principal has tier && principal.tier >= %d)", n), func(w *naiveWorld, r naiveRequest) outcome {
			mine, ok := w.tier[r.who]
			return truth(ok && mine >= n)
		}, false, false}
	case 5: // overflows from tier 1 on
		return condition{"(principal has tier && principal.tier + 9223372036854775807 > 0)", func(w *naiveWorld, r naiveRequest) outcome {
			mine, ok := w.tier[r.who]
			if ok && mine > 0 {
				return failed
			}
			return truth(ok)
		}, false, true}
	case 6: // the context's share may fail as well
		return condition{`(context.at.offset(duration("0ms")) > datetime("2026-06-01") && (if principal has tier then principal.tier * 9223372036854775807 >= 0 else true))`,
			func(w *naiveWorld, r naiveRequest) outcome {
				if r.at.Before(time.Date(2026, 6, 1, 0, 0, 0, 1, time.UTC)) {
					return no
				}
				if w.tier[r.who] > 1 {
					return failed
				}
				return yes
			}, true, true}
	default:
		at := one(c, []string{"2026-01-01", "2026-11-28", "2027-06-01"})
		limit, err := time.Parse(time.DateOnly, at)
		if err != nil {
			panic(err)
		}
		return condition{fmt.Sprintf("context.at < datetime(%q)", at), func(_ *naiveWorld, r naiveRequest) outcome { return truth(r.at.Before(limit)) }, true, false}
	}
}

func (c chance) policy(w *naiveWorld) naivePolicy {
	p := naivePolicy{forbid: c.IntN(4) == 0}
	var heads []func(*naiveWorld, naiveRequest) bool
	var who, act, what string
	wide := func() bool { return p.forbid && c.IntN(2) == 0 }
	// What people do, or what machines use; now and then one that fits nothing.
	groups, single, named, about := []string{"Team"}, []string{"Person", "Bot", "Agent"}, actions[:8], []string{"Instance", "Project", "Environment"}
	switch c.IntN(10) {
	case 0:
		groups, single, named, about = []string{"Team", "Pipeline"}, askers, actions, things
	case 1, 2, 3, 4:
		groups, single, named, about = []string{"Pipeline"}, []string{"Pipeline", "Job", "Job", "Service", "Environment"}, actions[9:], []string{"Secret"}
	}
	switch {
	case wide():
		who = "principal"
	case c.IntN(3) == 0:
		u := c.of(w, one(c, groups))
		who = fmt.Sprintf("principal in %s", u)
		heads = append(heads, func(w *naiveWorld, r naiveRequest) bool { return w.in(r.who, u) })
	default:
		u := c.of(w, one(c, single))
		who = fmt.Sprintf("principal == %s", u)
		heads = append(heads, func(_ *naiveWorld, r naiveRequest) bool { return r.who == u })
	}
	if wide() {
		act = "action"
	} else {
		some := []string{one(c, named), one(c, named), one(c, named)}[:1+c.IntN(3)]
		act = `action in [Action::"` + strings.Join(some, `", Action::"`) + `"]`
		heads = append(heads, func(_ *naiveWorld, r naiveRequest) bool { return slices.Contains(some, r.action) })
	}
	switch {
	case wide():
		what = "resource"
	case c.IntN(3) > 0:
		u := c.of(w, "Instance", "Project", "Environment")
		what = fmt.Sprintf("resource in %s", u)
		heads = append(heads, func(w *naiveWorld, r naiveRequest) bool { return w.in(r.what, u) })
	default:
		u := c.of(w, one(c, about))
		what = fmt.Sprintf("resource == %s", u)
		heads = append(heads, func(_ *naiveWorld, r naiveRequest) bool { return r.what == u })
	}
	effect := "permit"
	if p.forbid {
		effect = "forbid"
	}
	p.text = fmt.Sprintf("%s (%s, %s, %s)", effect, who, act, what)
	for range c.IntN(3) {
		cond := c.condition(w, c.IntN(3))
		if c.IntN(4) == 0 {
			p.text += " unless { " + cond.text + " }"
			means := cond.means
			cond.means = func(w *naiveWorld, r naiveRequest) outcome {
				switch means(w, r) {
				case yes:
					return no
				case no:
					return yes
				}
				return failed
			}
		} else {
			p.text += " when { " + cond.text + " }"
		}
		p.conditions = append(p.conditions, cond)
	}
	p.text += ";"
	p.scope = func(w *naiveWorld, r naiveRequest) bool {
		return !slices.ContainsFunc(heads, func(h func(*naiveWorld, naiveRequest) bool) bool { return !h(w, r) })
	}
	return p
}

// policies returns some that the schema's validation takes.
func (c chance) policies(w *naiveWorld, tried *int) []naivePolicy {
	var out []naivePolicy
	for len(out) < 12 {
		p := c.policy(w)
		*tried++
		if _, err := Compile(Layer{Name: "p", Source: []byte(p.text)}); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// Over random worlds and policies: every decision is that of the naive evaluator;
// who-can names all who are ever allowed; whom it says always may are never denied.
func TestAgainstTheNaiveEvaluator(t *testing.T) {
	t.Parallel()
	tried, taken, allowed, conditional, denials := 0, 0, 0, 0, 0
	for seed := range uint64(60) {
		c := chance{rand.New(rand.NewPCG(seed, 5))}
		entities, naive := c.world()
		w, err := NewWorld(entities)
		if err != nil {
			t.Fatal(err)
		}
		policies := c.policies(naive, &tried)
		taken += len(policies)
		var source strings.Builder
		for _, p := range policies {
			source.WriteString(p.text + "\n")
		}
		s := compile(t, source.String())
		exact := !slices.ContainsFunc(policies, func(p naivePolicy) bool {
			return slices.ContainsFunc(p.conditions, func(c condition) bool { return c.context || c.fails })
		})
		for _, action := range actions {
			for _, what := range w.Of(things...) {
				ever, always := map[UID]bool{}, map[UID]bool{}
				for _, who := range w.Of(askers...) {
					all := true
					for _, at := range moments {
						want := naiveDecide(naive, policies, naiveRequest{who, what, action, at})
						got := s.Decide(w, Request{Principal: who, Action: Action(action), Resource: what, At: at})
						if got.Allowed != want {
							t.Fatalf("seed %d: %s may %s %s at %s: %v (%s), naively %v\n%s", seed, who, action, what, at, got.Allowed, got.Why(), want, source.String())
						}
						if all = all && want; want {
							ever[who] = true
							allowed++
						} else {
							denials++
						}
					}
					always[who] = all
				}
				holders, err := s.WhoCan(t.Context(), w, Action(action), what)
				if sallyport.ErrorCode(err) == sallyport.CodeInvalid && len(ever) == 0 {
					continue // the action is not about such things
				}
				if err != nil {
					t.Fatal(err)
				}
				found := map[UID]bool{}
				for _, h := range holders {
					found[h.Principal] = true
					if h.Always && !always[h.Principal] {
						t.Fatalf("seed %d: %s may not always %s %s\n%s", seed, h.Principal, action, what, source.String())
					}
					if !h.Always {
						conditional++
					}
					if exact && !ever[h.Principal] {
						t.Fatalf("seed %d: %s never may %s %s, and nothing depends on the context\n%s", seed, h.Principal, action, what, source.String())
					}
				}
				for who := range ever {
					if !found[who] {
						t.Fatalf("seed %d: who can %s %s leaves %s out\n%s", seed, action, what, who, source.String())
					}
				}
			}
		}
	}
	if taken*2 < tried || allowed < 1000 || denials < 1000 || conditional < 10 {
		t.Fatalf("too little was tried: %d of %d policies, %d allowed, %d denied, %d under conditions", taken, tried, allowed, denials, conditional)
	}
}

// What Compare reports is what WhoCan says before and after.
func TestCompareAgainstWhoCan(t *testing.T) {
	t.Parallel()
	changes, tried := 0, 0
	for seed := range uint64(20) {
		c := chance{rand.New(rand.NewPCG(seed, 6))}
		entities, naive := c.world()
		w, err := NewWorld(entities)
		if err != nil {
			t.Fatal(err)
		}
		sets := [2]*Set{}
		for i := range sets {
			var source strings.Builder
			for _, p := range c.policies(naive, &tried) {
				source.WriteString(p.text + "\n")
			}
			sets[i] = compile(t, source.String())
		}
		got, err := Compare(t.Context(), sets[0], w, sets[1], w)
		if err != nil {
			t.Fatal(err)
		}
		can := func(s *Set) map[Reach]bool {
			out := map[Reach]bool{}
			for _, a := range actions {
				for _, u := range w.Of(things...) {
					holders, err := s.WhoCan(t.Context(), w, Action(a), u)
					if err != nil && sallyport.ErrorCode(err) != sallyport.CodeInvalid {
						t.Fatal(err)
					}
					for _, h := range holders {
						out[Reach{h.Principal, Action(a), u}] = true
					}
				}
			}
			return out
		}
		before, after := can(sets[0]), can(sets[1])
		want := 0
		for r := range after {
			if !before[r] {
				want++
				if !slices.Contains(got.Gained, r) {
					t.Errorf("seed %d: %v was gained and is not told", seed, r)
				}
			}
		}
		if want != len(got.Gained) {
			t.Errorf("seed %d: %d gains, want %d", seed, len(got.Gained), want)
		}
		changes += want + len(got.Lost)
	}
	if changes < 100 {
		t.Fatalf("only %d changes", changes)
	}
}
