package rights

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"

	"github.com/sallyport-ci/sallyport"
)

// UID names an entity: its type and its id, written Type::"id".
type UID = types.EntityUID

// Entity is a principal or a resource: what it is in, and its attributes.
type Entity = types.Entity

// Types of entities, as the schema declares them.
const (
	TypeTeam        = "Team"
	TypePerson      = "Person"
	TypeBot         = "Bot"
	TypeAgent       = "Agent"
	TypeRunner      = "Runner"
	TypePipeline    = "Pipeline"
	TypeJob         = "Job"
	TypeService     = "Service"
	TypeInstance    = "Instance"
	TypeProject     = "Project"
	TypeEnvironment = "Environment"
	TypeSecret      = "Secret"
)

// Bounds of what a world holds.
const (
	maxEntities = 500_000
	maxParents  = 1_000 // of one entity, all the way up
)

// Of makes a UID.
func Of(kind, id string) UID { return types.NewEntityUID(types.EntityType(kind), types.String(id)) }

// ParseUID reads Type::"id".
func ParseUID(text string) (UID, error) {
	var u UID
	if len(text) > 1000 {
		return u, sallyport.Errorf(sallyport.CodeInvalid, "the name of an entity is longer than 1000 bytes")
	}
	if err := u.UnmarshalCedar([]byte(text)); err != nil || u.Type == "" {
		return UID{}, sallyport.Errorf(sallyport.CodeInvalid, "%.80q names no entity", text).WithHint(`write its type and id, as in Environment::"shop/production"`)
	}
	return u, nil
}

// Action names an action.
func Action(name string) UID { return Of("Action", name) }

// TheInstance is the installation.
func TheInstance() UID { return Of(TypeInstance, "instance") }

// ProjectUID names a project. Names of projects are not given twice.
func ProjectUID(name string) UID { return Of(TypeProject, name) }

// EnvironmentUID names an environment of a project.
func EnvironmentUID(project, name string) UID { return Of(TypeEnvironment, project+"/"+name) }

// SecretUID names a secret of an environment.
func SecretUID(project, environment, name string) UID {
	return Of(TypeSecret, project+"/"+environment+"/"+name)
}

func entity(u UID, attributes types.RecordMap, parents ...UID) Entity {
	return Entity{UID: u, Parents: types.NewEntityUIDSet(parents...), Attributes: types.NewRecord(attributes)}
}

// Instance is the entity of the installation.
func Instance() Entity { return entity(TheInstance(), nil) }

// Project is the entity of a project.
func Project(name string) Entity { return entity(ProjectUID(name), nil, TheInstance()) }

// Environment is the entity of an environment. It is of itself alone, and in no other.
func Environment(project, name string) Entity {
	u := EnvironmentUID(project, name)
	return entity(u, types.RecordMap{"environment": u}, ProjectUID(project))
}

// Secret is the entity of a secret.
func Secret(project, environment, name string, tier sallyport.Tier) Entity {
	e := EnvironmentUID(project, environment)
	return entity(SecretUID(project, environment, name), types.RecordMap{"environment": e, "tier": rank(tier)}, e)
}

// Team is a team, which may be in others.
func Team(id string, in ...UID) Entity { return entity(Of(TypeTeam, id), nil, in...) }

// Person is a human being with their teams.
func Person(id string, teams ...UID) Entity { return entity(Of(TypePerson, id), nil, teams...) }

// Bot is a program with tokens of its own.
func Bot(id string) Entity { return entity(Of(TypeBot, id), nil) }

// Agent is a program that acts for a person and may never do more than they.
func Agent(id string, sponsor UID) Entity {
	return entity(Of(TypeAgent, id), types.RecordMap{"sponsor": sponsor})
}

// Runner is a runner.
func Runner(id string) Entity { return entity(Of(TypeRunner, id), nil) }

// Pipeline is a workflow of a project at one content, on one class of refs.
func Pipeline(project, workflow string, digest sallyport.Digest, refs string, tier sallyport.Tier) Entity {
	return entity(Of(TypePipeline, project+"/"+workflow+"@"+digest.Short()+"/"+refs),
		types.RecordMap{"project": ProjectUID(project), "workflow": types.String(digest), "refs": types.String(refs), "tier": rank(tier)})
}

// Job is one job of a pipeline; environment is the zero UID when it names none.
func Job(id string, pipeline UID, tier sallyport.Tier, environment UID) Entity {
	attributes := types.RecordMap{"tier": rank(tier)}
	if environment != (UID{}) {
		attributes["environment"] = environment
	}
	return entity(Of(TypeJob, id), attributes, pipeline)
}

// Service is what runs in an environment.
func Service(project, environment, name string) Entity {
	return entity(Of(TypeService, project+"/"+environment+"/"+name), types.RecordMap{"environment": EnvironmentUID(project, environment)})
}

func rank(t sallyport.Tier) types.Long { return types.Long(t.Rank()) }

// World is what is known of principals and resources. It does not change, and
// may be used by many at once.
type World struct {
	entities  map[UID]Entity
	ancestors map[UID][]UID   // all the way up
	below     map[UID][]int32 // the reverse, by number
	uids      []UID           // sorted; the place of one is its number
	numbers   map[UID]int32
	class     []int32 // by number: one for those that look alike, 0 for what another entity names
	digest    sallyport.Digest
}

// NewWorld checks the entities against the schema: their types, attributes and
// parents, that none is in itself, and that the sponsor of an agent is a known person.
func NewWorld(entities []Entity) (*World, error) {
	_, validator, err := theSchema()
	if err != nil {
		return nil, err
	}
	if len(entities) > maxEntities {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "more than %d entities", maxEntities)
	}
	w := &World{entities: make(map[UID]Entity, len(entities)), ancestors: map[UID][]UID{}, below: map[UID][]int32{}, numbers: make(map[UID]int32, len(entities))}
	for _, e := range entities {
		if _, twice := w.entities[e.UID]; twice {
			return nil, sallyport.Errorf(sallyport.CodeConflict, "%s is there twice", e.UID)
		}
		if err := validator.Entity(e); err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s: %s", e.UID, err.Error())
		}
		w.entities[e.UID] = e
		w.uids = append(w.uids, e.UID)
	}
	slices.SortFunc(w.uids, compare)
	for i, u := range w.uids {
		w.numbers[u] = int32(i)
		up, err := w.climb(u)
		if err != nil {
			return nil, err
		}
		w.ancestors[u] = up
		for _, a := range up {
			w.below[a] = append(w.below[a], int32(i))
		}
		if sponsor, ok := sponsorOf(w.entities[u]); ok {
			if _, known := w.entities[sponsor]; !known || sponsor.Type != TypePerson {
				return nil, sallyport.Errorf(sallyport.CodeInvalid, "the sponsor of %s, %s, is not a person that is known", u, sponsor)
			}
		}
	}
	text := sha256.New()
	for _, u := range w.uids {
		e, err := w.entities[u].MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", u, err)
		}
		text.Write(append(e, '\n'))
	}
	w.digest = sallyport.Digest("sha256:" + hex.EncodeToString(text.Sum(nil)))
	w.classify()
	return w, nil
}

// classify gives one number to entities of one type with equal attributes and parents.
func (w *World) classify() {
	w.class = make([]int32, len(w.uids))
	referred := map[UID]bool{}
	looks := map[string]int32{}
	for i, u := range w.uids {
		e := w.entities[u]
		for p := range e.Parents.All() {
			referred[p] = true
		}
		refer(e.Attributes, referred)
		look := fmt.Sprintf("%s %s %s", u.Type, slices.SortedFunc(e.Parents.All(), compare), e.Attributes.MarshalCedar())
		if looks[look] == 0 {
			looks[look] = int32(len(looks) + 1)
		}
		w.class[i] = looks[look]
	}
	for u := range referred {
		if n, ok := w.numbers[u]; ok {
			w.class[n] = 0
		}
	}
}

// refer notes the entities that a value names.
func refer(v types.Value, to map[UID]bool) {
	switch v := v.(type) {
	case UID:
		to[v] = true
	case types.Set:
		for e := range v.All() {
			refer(e, to)
		}
	case types.Record:
		for e := range v.Values() {
			refer(e, to)
		}
	}
}

// climb returns all that u is in.
func (w *World) climb(u UID) ([]UID, error) {
	var up []UID
	seen := map[UID]bool{}
	todo := slices.Collect(w.entities[u].Parents.All())
	for len(todo) > 0 {
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if next == u {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s is in itself", u).WithHint("take one of the teams out of the other")
		}
		if seen[next] {
			continue
		}
		if len(up) == maxParents {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s is in more than %d others", u, maxParents)
		}
		seen[next] = true
		up = append(up, next)
		todo = slices.AppendSeq(todo, w.entities[next].Parents.All())
	}
	slices.SortFunc(up, compare)
	return up, nil
}

// Digest names the world: of all its entities.
func (w *World) Digest() sallyport.Digest { return w.digest }

// Get implements cedar.EntityGetter.
func (w *World) Get(u UID) (Entity, bool) {
	e, ok := w.entities[u]
	return e, ok
}

// Of returns the entities of some types, sorted.
func (w *World) Of(kinds ...string) []UID {
	var out []UID
	for _, u := range w.uids {
		if slices.Contains(kinds, string(u.Type)) {
			out = append(out, u)
		}
	}
	return out
}

func sponsorOf(e Entity) (UID, bool) {
	if e.UID.Type != TypeAgent {
		return UID{}, false
	}
	v, _ := e.Attributes.Get("sponsor")
	u, ok := v.(UID)
	return u, ok
}

func compare(a, b UID) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ID, b.ID))
}

// near is a world and what a request brings along: resources that are not kept in
// it. What the world knows it knows better.
type near struct {
	w     *World
	extra []Entity
}

func (n near) Get(u UID) (Entity, bool) {
	if e, ok := n.w.entities[u]; ok {
		return e, true
	}
	for _, e := range n.extra {
		if e.UID == u {
			return e, true
		}
	}
	return Entity{}, false
}

// up returns all that u is in.
func (n near) up(u UID) []UID {
	if up, ok := n.w.ancestors[u]; ok || len(n.extra) == 0 {
		return up
	}
	var up []UID
	todo := []UID{u}
	for len(todo) > 0 && len(up) <= maxParents {
		e, _ := n.Get(todo[0])
		todo = todo[1:]
		for p := range e.Parents.All() {
			if !slices.Contains(up, p) {
				up, todo = append(up, p), append(todo, p)
			}
		}
	}
	return up
}

var _ cedar.EntityGetter = near{}

// requestTypes are the types of principals and resources of an action.
type requestTypes struct {
	principals, resources []string
}

func requestsOf(s *resolved.Schema) map[string]requestTypes {
	out := map[string]requestTypes{}
	for u, a := range s.Actions {
		var t requestTypes
		for _, p := range a.AppliesTo.Principals {
			t.principals = append(t.principals, string(p))
		}
		for _, r := range a.AppliesTo.Resources {
			t.resources = append(t.resources, string(r))
		}
		out[string(u.ID)] = t
	}
	return out
}
