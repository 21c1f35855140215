package rights

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/batch"

	"github.com/sallyport-ci/sallyport"
)

// Holder is a principal that may do something.
type Holder struct {
	Principal UID
	// Always is false when it may depend on the context, such as the time.
	Always bool
}

// WhoCan returns every principal of the world that may do the action to the
// resource in some context, sorted. It is complete and may say too much: conditions
// on the context of permits are taken as met, those of forbids as not. The
// resource must be in the world.
func (s *Set) WhoCan(ctx context.Context, w *World, action, resource UID) ([]Holder, error) {
	if _, ok := w.entities[resource]; !ok {
		return nil, sallyport.Errorf(sallyport.CodeNotFound, "%s is not known", resource)
	}
	t, ok := s.requests[string(action.ID)]
	if !ok || action.Type != "Action" {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s is not an action", action).WithHint("use one of %v", s.Actions())
	}
	if !slices.Contains(t.resources, string(resource.Type)) {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "nobody can %s a %s: the action is about %v", action.ID, resource.Type, t.resources)
	}
	may, err := newSearch(s, w).find(ctx, action, resource)
	if err != nil {
		return nil, err
	}
	out := make([]Holder, len(may))
	for i, n := range may {
		u := w.uids[n]
		out[i] = Holder{u, s.sure.Decide(w, Request{Principal: u, Action: action, Resource: resource}).Allowed}
	}
	return out, nil
}

// search asks who can, again and again. It is for one goroutine.
type search struct {
	s    *Set
	w    *World
	mark []bool // by number of the principal, while it is asked
}

func newSearch(s *Set, w *World) *search { return &search{s, w, make([]bool, len(w.uids))} }

// find returns the numbers of the principals that may, in order. It asks only those
// whom a permit names that fits the action and the resource, for nobody else can
// be allowed; and of those that the policies cannot tell apart it asks one.
func (q *search) find(ctx context.Context, action, resource UID) ([]int32, error) {
	t := q.s.requests[string(action.ID)]
	if !slices.Contains(t.resources, string(resource.Type)) {
		return nil, nil
	}
	permits := q.s.about(action, resource, q.w.ancestors[resource])
	asked := q.named(permits, t.principals)
	if len(asked) == 0 {
		return nil, nil
	}
	policies := permits
	for _, r := range q.s.forbids {
		if r.names(action) {
			policies = append(policies, r)
		}
	}
	like := q.alike(asked, policies)
	first := make([]types.Value, 0, 16)
	for i, n := range asked {
		if like[i] == n {
			first = append(first, q.w.uids[n])
		}
	}
	allowed := map[int32]bool{}
	err := batch.Authorize(ctx, policies, q.w, batch.Request{
		Principal: batch.Variable("principal"), Action: action, Resource: resource, Context: batch.Ignore(),
		Variables: batch.Variables{"principal": first},
	}, func(r batch.Result) error {
		if r.Decision == types.Allow {
			allowed[q.w.numbers[r.Request.Principal]] = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("evaluate in parts: %w", err)
	}
	if len(allowed) == 0 {
		return nil, nil
	}
	may := asked[:0]
	last, lasts := int32(-1), false
	for i, n := range asked {
		if like[i] != last {
			last, lasts = like[i], allowed[like[i]]
		}
		if lasts {
			may = append(may, n)
		}
	}
	return q.w.sponsored(may), nil
}

// about returns the permits that name the action, and the resource or something that it is in.
func (s *Set) about(action, resource UID, in []UID) picked {
	var out picked
	add := func(u UID) {
		for _, r := range s.byThing[u] {
			if r.names(action) {
				out = append(out, r)
			}
		}
	}
	add(resource)
	for _, u := range in {
		add(u)
	}
	return out
}

// named returns the numbers of all principals of the types whom the permits name, in order.
func (q *search) named(permits picked, kinds []string) []int32 {
	var out []int32
	add := func(n int32) {
		if !q.mark[n] && slices.Contains(kinds, string(q.w.uids[n].Type)) {
			q.mark[n] = true
			out = append(out, n)
		}
	}
	for _, r := range permits {
		if n, known := q.w.numbers[r.principal]; known {
			add(n)
		}
		for _, n := range q.w.below[r.principal] {
			add(n)
		}
	}
	for _, n := range out {
		q.mark[n] = false
	}
	if !slices.IsSorted(out) {
		slices.Sort(out)
	}
	return out
}

// alike returns for each of the principals the one that is asked in its stead. The
// policies cannot tell apart those of one type with the same attributes, in the same
// others, whom neither a policy nor another entity names.
func (q *search) alike(asked []int32, policies picked) []int32 {
	named := map[int32]bool{}
	for _, r := range policies {
		for _, u := range r.named {
			if n, ok := q.w.numbers[u]; ok {
				named[n] = true
			}
		}
	}
	out := make([]int32, len(asked))
	first := map[int32]int32{}
	for i, n := range asked {
		class := q.w.class[n]
		if class == 0 || named[n] {
			out[i] = n
			continue
		}
		one, ok := first[class]
		if !ok {
			one, first[class] = n, n
		}
		out[i] = one
	}
	return out
}

// sponsored leaves out the agents whose sponsor is not among those who may; the
// list is in order.
func (w *World) sponsored(may []int32) []int32 {
	left := map[int32]bool{}
	for _, n := range may {
		if u := w.uids[n]; u.Type == TypeAgent {
			sponsor, ok := sponsorOf(w.entities[u])
			if ok {
				_, ok = slices.BinarySearch(may, w.numbers[sponsor])
			}
			left[n] = !ok
		}
	}
	if len(left) == 0 {
		return may
	}
	return slices.DeleteFunc(may, func(n int32) bool { return left[n] })
}

// Actions returns the actions of the schema, sorted.
func (s *Set) Actions() []string {
	out := make([]string, 0, len(s.requests))
	for a := range s.requests {
		out = append(out, a)
	}
	slices.Sort(out)
	return out
}

// picked are policies of a set.
type picked []*rule

func (p picked) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, r := range p {
			if !yield(r.id, r.policy) {
				return
			}
		}
	}
}

// Reach is one thing that one principal may do in some context.
type Reach struct {
	Principal UID
	Action    UID
	Resource  UID
}

// Diff is what a change of policies or of principals changes.
type Diff struct {
	Gained []Reach // newly lets; at most maxReach
	Lost   []Reach
	// More counts what did not fit into the lists.
	More int
	// Asked is how many requests were decided: every principal of both worlds, every
	// action and every resource that the action is about.
	Asked int64
}

// maxReach bounds each list of a Diff: it is read by people and kept in the trail.
const maxReach = 1_000

// Compare decides every request about the entities of the worlds under both sets.
// It is exhaustive over what is known, not over what will be; like WhoCan it may say too much.
func Compare(ctx context.Context, before *Set, then *World, after *Set, now *World) (Diff, error) {
	var d Diff
	old, young := newSearch(before, then), newSearch(after, now)
	for _, name := range after.Actions() {
		action, t := Action(name), after.requests[name]
		things := slices.Concat(then.Of(t.resources...), now.Of(t.resources...))
		slices.SortFunc(things, compare)
		things = slices.Compact(things)
		d.Asked += int64(len(things)) * int64(max(len(then.Of(t.principals...)), len(now.Of(t.principals...))))
		for _, thing := range things {
			if err := ctx.Err(); err != nil {
				return d, err
			}
			could, err := old.find(ctx, action, thing)
			if err != nil {
				return d, err
			}
			can, err := young.find(ctx, action, thing)
			if err != nil {
				return d, err
			}
			d.add(&d.Gained, can, now, could, then, action, thing)
			d.add(&d.Lost, could, then, can, now, action, thing)
		}
	}
	return d, nil
}

// add keeps those of some that are not among others.
func (d *Diff) add(to *[]Reach, some []int32, of *World, others []int32, ofOthers *World, action, thing UID) {
	i := 0
	for _, n := range some {
		u := of.uids[n]
		if of == ofOthers {
			for i < len(others) && others[i] < n {
				i++
			}
			if i < len(others) && others[i] == n {
				continue
			}
		} else {
			for i < len(others) && compare(ofOthers.uids[others[i]], u) < 0 {
				i++
			}
			if i < len(others) && ofOthers.uids[others[i]] == u {
				continue
			}
		}
		if len(*to) == maxReach {
			d.More++
			continue
		}
		*to = append(*to, Reach{u, action, thing})
	}
}

// Lockout is the proof that nobody is left who may change the policies.
type Lockout struct {
	// Stopped says of each person who a permit lets administer what stops them; all
	// others no permit names.
	Stopped []Stopped
}

// Stopped is one person and why they may not.
type Stopped struct {
	Principal UID
	Why       string
}

func (l *Lockout) Error() string {
	text := "nobody could change the policies any more"
	for i, s := range l.Stopped {
		if i == 5 {
			return fmt.Sprintf("%s; and %d more", text, len(l.Stopped)-i)
		}
		text += fmt.Sprintf("; %s: %s", s.Principal, s.Why)
	}
	return text
}

// KeepsAnAdministrator returns a *Lockout unless some person of the world may
// administer the instance in every context.
func (s *Set) KeepsAnAdministrator(w *World) error {
	l := &Lockout{}
	for _, u := range w.Of(TypePerson) {
		d := s.sure.Decide(w, Request{Principal: u, Action: Action("admin"), Resource: TheInstance()})
		if d.Allowed {
			return nil
		}
		if len(d.Determining) > 0 || len(d.Errors) > 0 {
			l.Stopped = append(l.Stopped, Stopped{u, d.Why()})
		}
	}
	return l
}
