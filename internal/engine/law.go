package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/policy/rights"
)

// law is who may do what at one moment: the policies in force, and who and what
// they are about. It does not change.
type law struct {
	set      *rights.Set
	world    *rights.World // principals, and projects with their environments
	file     sallyport.AccessFile
	accounts []sallyport.Account // without those that were removed
	projects map[sallyport.ProjectID]string
	jit      []sallyport.Grant // just-in-time grants that are not over
	broken   error             // why the operator's policies are not in force
}

func (l *law) projectName(id sallyport.ProjectID) string {
	if name, ok := l.projects[id]; ok {
		return name
	}
	return string(id) // no policy names it
}

// laws keeps the law until something that it is made from changes.
type laws struct {
	mu    sync.Mutex
	drops int
	now   *law
}

func (l *laws) drop() {
	l.mu.Lock()
	l.drops++
	l.now = nil
	l.mu.Unlock()
}

// law returns what is in force now.
func (e *Engine) law(ctx context.Context) (*law, error) {
	for {
		e.laws.mu.Lock()
		l, drops := e.laws.now, e.laws.drops
		e.laws.mu.Unlock()
		if l != nil {
			return l, nil
		}
		m, err := e.matter(ctx)
		if err != nil {
			return nil, err
		}
		if l, err = m.enact(); err != nil {
			// Policies that this version cannot read permit nothing; whoever runs the
			// installation can still set others.
			e.log.ErrorContext(ctx, "access policies are not in force", "error", err)
			if l, err = m.emergency(err); err != nil {
				return nil, err
			}
		}
		e.laws.mu.Lock()
		current := e.laws.drops == drops
		if current {
			e.laws.now = l
		}
		e.laws.mu.Unlock()
		if current {
			return l, nil
		}
	}
}

// matter is what the law is made from.
type matter struct {
	known        []sallyport.Principal
	accounts     []sallyport.Account // removed ones too
	tokens       []sallyport.Token   // unexpired
	projects     []sallyport.Project
	environments map[string][]string // names by project's name
	file         sallyport.AccessFile
	jit          []sallyport.Grant // that were not over when they were read
	stops        []sallyport.Stop
}

func (e *Engine) matter(ctx context.Context) (*matter, error) {
	m := &matter{known: e.known}
	now := e.now()
	err := e.view(ctx, func(tx sallyport.Tx) error { return m.read(tx, now) })
	return m, err
}

func (m *matter) read(tx sallyport.Tx, now time.Time) error {
	var err error
	if m.accounts, err = tx.Accounts().List(); err != nil {
		return err
	}
	if m.tokens, err = tx.Tokens().List(); err != nil {
		return err
	}
	m.tokens = slices.DeleteFunc(m.tokens, func(t sallyport.Token) bool { return !now.Before(t.ExpiresAt) })
	if m.projects, err = tx.Projects().List(); err != nil {
		return err
	}
	m.environments = map[string][]string{}
	for _, p := range m.projects {
		list, err := tx.Environments().List(p.ID)
		if err != nil {
			return err
		}
		for _, env := range list {
			m.environments[p.Name] = append(m.environments[p.Name], env.Name)
		}
	}
	if m.jit, err = openGrants(tx, now); err != nil {
		return err
	}
	if m.stops, err = tx.Stops().Standing(); err != nil {
		return err
	}
	m.file, err = tx.AccessFiles().Current()
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		err = nil
	}
	return err
}

// fileLayer is how places in the operator's policies are told.
const fileLayer = "access.cedar"

func (m *matter) enact() (*law, error) {
	l := &law{file: m.file, projects: map[sallyport.ProjectID]string{}}
	entities := []rights.Entity{rights.Instance()}
	for _, p := range m.projects {
		l.projects[p.ID] = p.Name
		entities = append(entities, rights.Project(p.Name))
		for _, name := range m.environments[p.Name] {
			entities = append(entities, rights.Environment(p.Name, name))
		}
	}
	for _, a := range m.accounts {
		if a.RemovedAt.IsZero() {
			l.accounts = append(l.accounts, a)
		}
	}
	var grants []rights.Grant
	teams := map[string]bool{}
	everybody := m.everybody()
	persons := map[string]bool{}
	for _, a := range everybody {
		persons[a.ID] = persons[a.ID] || a.Kind == sallyport.Person
	}
	for _, a := range everybody {
		who, ok := uidOf(a.Kind, a.ID)
		if !ok {
			continue
		}
		switch a.Kind {
		case sallyport.Person:
			var in []rights.UID
			for _, name := range a.Teams {
				in = append(in, rights.Of(rights.TypeTeam, name))
				if !teams[name] {
					teams[name] = true
					entities = append(entities, rights.Team(name))
				}
			}
			entities = append(entities, rights.Person(a.ID, in...))
		case sallyport.Bot:
			entities = append(entities, rights.Bot(a.ID))
		case sallyport.Agent:
			if !persons[a.Sponsor] { // it acts for nobody any more: alone it is left out, and may nothing
				continue
			}
			entities = append(entities, rights.Agent(a.ID, rights.Of(rights.TypePerson, a.Sponsor)))
		case sallyport.Runner:
			entities = append(entities, rights.Runner(a.ID))
		}
		grants = append(grants, l.grants(a, who)...)
	}
	var err error
	if l.world, err = rights.NewWorld(entities); err != nil {
		return nil, err
	}
	l.jit = m.jit
	jit := rights.Layer{Name: "jit"}
	for _, g := range m.jit {
		who, ok := uidOf(g.Holder.Kind, g.Holder.ID)
		what, err := rights.ParseUID(g.Resource)
		if !ok || err != nil {
			continue // it lets nothing
		}
		jit.Grants = append(jit.Grants, rights.Grant{ID: "jit/" + string(g.ID), Principal: who, Actions: []string{g.Action}, Resource: what,
			Only: string(g.ID), From: g.StartsAt, Until: g.EndsAt})
	}
	l.set, err = rights.Compile(rights.Layer{Name: fileLayer, Source: []byte(m.file.Source)}, rights.Layer{Name: "grants", Grants: grants}, jit,
		rights.Layer{Name: "stops", Bans: bans(m.stops)})
	return l, err
}

// bans are what stops forbid: everything to a principal, and whatever changes a project.
func bans(stops []sallyport.Stop) (out []rights.Ban) {
	seen := map[string]bool{}
	for _, s := range stops {
		b := rights.Ban{ID: "stop/" + string(s.Kind) + "/" + s.Name}
		switch s.Kind {
		case sallyport.StopPerson, sallyport.StopBot, sallyport.StopAgent:
			b.Principal, _ = uidOf(sallyport.PrincipalKind(s.Kind), s.Name)
		case sallyport.StopProject:
			b.Actions = []string{string(actPush), string(actOperate), string(actDeploy), string(actApprove)}
			b.Resource = rights.ProjectUID(s.Name)
		default: // runners, keys and secrets are looked at where they are used
			continue
		}
		if !seen[b.ID] {
			seen[b.ID] = true
			out = append(out, b)
		}
	}
	return out
}

// emergency is the law for those alone whom this process knows by itself.
func (m *matter) emergency(why error) (*law, error) {
	bare := &matter{known: m.known, projects: m.projects, environments: m.environments, stops: m.stops}
	l, err := bare.enact()
	if err != nil {
		return nil, err
	}
	l.broken, l.file = why, m.file
	return l, nil
}

// everybody returns the accounts that are in force, who is known without one, and
// those whom only their credentials know: until people, bots and agents had
// accounts all were so, and what their credentials say together is what they may.
// By id; nobody twice.
func (m *matter) everybody() []sallyport.Account {
	by := map[string]*sallyport.Account{}
	settled := map[string]bool{} // by an account
	key := func(kind sallyport.PrincipalKind, id string) string { return string(kind) + " " + id }
	for _, a := range m.accounts {
		settled[key(a.Kind, a.ID)] = true
		if a.RemovedAt.IsZero() {
			by[key(a.Kind, a.ID)] = &a
		}
	}
	add := func(p sallyport.Principal) {
		if settled[key(p.Kind, p.ID)] {
			return
		}
		a := by[key(p.Kind, p.ID)]
		if a == nil {
			a = &sallyport.Account{ID: p.ID, Kind: p.Kind, Name: p.Name}
			by[key(p.Kind, p.ID)] = a
		}
		a.Admin = a.Admin || p.Admin
		for _, project := range p.Projects {
			if !slices.Contains(a.Projects, project) {
				a.Projects = append(a.Projects, project)
			}
		}
	}
	for _, p := range m.known {
		add(p)
	}
	for _, t := range m.tokens {
		if t.Principal.Kind == sallyport.Person || t.Principal.Kind == sallyport.Bot {
			add(t.Principal)
		}
	}
	out := make([]sallyport.Account, 0, len(by))
	for _, a := range by {
		out = append(out, *a)
	}
	slices.SortFunc(out, func(a, b sallyport.Account) int {
		return strings.Compare(string(a.Kind)+" "+a.ID, string(b.Kind)+" "+b.ID)
	})
	return out
}

// grants are the exact policies of an account: everything on the installation, or
// the work on each of its projects; and to see how the installation is.
func (l *law) grants(a sallyport.Account, who rights.UID) []rights.Grant {
	whose := string(a.Kind) + "/" + a.ID
	id := "grant/" + whose
	if a.Kind == sallyport.Runner {
		return []rights.Grant{{ID: id, Principal: who, Actions: []string{string(actYard)}, Resource: rights.TheInstance()}}
	}
	work := []string{string(actRead), string(actFetch), string(actPush), string(actOperate), string(actDeploy)}
	if a.Kind == sallyport.Person {
		work = append(work, string(actApprove))
	}
	if a.Admin {
		all := append(work, string(actSecrets), string(actAdmin), string(actInstance), string(actRequest))
		if a.Kind != sallyport.Agent {
			all = append(all, string(actStop))
		}
		if a.Kind == sallyport.Person {
			all = append(all, string(actEmergency), string(actLift))
		}
		return []rights.Grant{{ID: id, Principal: who, Actions: all, Resource: rights.TheInstance()}}
	}
	out := []rights.Grant{{ID: id, Principal: who, Actions: []string{string(actInstance), string(actRequest)}, Resource: rights.TheInstance()}}
	for _, p := range a.Projects {
		if name, ok := l.projects[p]; ok {
			out = append(out, rights.Grant{ID: "work/" + name + "/" + whose, Principal: who, Actions: work, Resource: rights.ProjectUID(name)})
		}
	}
	return out
}
