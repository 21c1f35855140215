package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// projects implements sallyport.Projects: the inner door. What git was allowed
// to change becomes Pushes, and each Push enqueues its plan.
type projects struct{ e *Engine }

const maxRefName = 512 // git itself allows more; pages and certificates do not

func (s projects) CreateProject(ctx context.Context, name, defaultBranch string) (sallyport.Project, error) {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return sallyport.Project{}, err
	}
	if err := sallyport.ValidName("project", name); err != nil {
		return sallyport.Project{}, err
	}
	if Reserved(name) {
		return sallyport.Project{}, sallyport.Errorf(sallyport.CodeInvalid, "project name %q is used by Sallyport itself", name).WithHint("choose another name")
	}
	if defaultBranch == "" {
		defaultBranch = "main"
	}
	if err := validBranch(defaultBranch); err != nil {
		return sallyport.Project{}, err
	}
	now := s.e.now()
	p := sallyport.Project{ID: sallyport.NewID[sallyport.ProjectID](now), Name: name, DefaultBranch: defaultBranch, CreatedAt: now}
	// The repository first: one that no project names does no harm, a project
	// without a repository would.
	if err := s.e.repos.Create(ctx, p); err != nil {
		return sallyport.Project{}, err
	}
	err := s.e.update(ctx, func(c *change) error {
		if err := c.Projects().Insert(p); err != nil {
			return err
		}
		c.law = true // policies name projects
		return c.record("project.created", "project/"+string(p.ID), map[string]string{"name": name, "default_branch": defaultBranch})
	})
	if sallyport.ErrorCode(err) == sallyport.CodeConflict {
		return p, sallyport.Errorf(sallyport.CodeConflict, "project %q exists", name).WithHint("choose another name, or push to the one there is")
	}
	return p, err
}

// Reserved reports whether a project may not have the name because an address
// or an identity of Sallyport itself begins with it.
func Reserved(name string) bool { return reservedNames[name] }

// reservedNames are the first path segments of our own URLs.
var reservedNames = map[string]bool{
	"api": true, "yard": true, "static": true, "healthz": true, "readyz": true, "metrics": true, "login": true, "logout": true,
	"runs": true, "projects": true, "artifacts": true, "deployments": true, "environments": true, "gates": true, "audit": true,
	"tokens": true, "system": true, "jobs": true, "gate": true, "builders": true, "access": true, "caches": true, "approvals": true, "grants": true, "requests": true, "stops": true,
}

func validBranch(b string) error {
	bad := b == "" || len(b) > 200 || strings.HasPrefix(b, "-") || strings.HasPrefix(b, "/") || strings.HasSuffix(b, "/") ||
		strings.HasSuffix(b, ".lock") || strings.Contains(b, "..") || strings.Contains(b, "//") || strings.Contains(b, "@{")
	if bad || strings.ContainsFunc(b, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune("~^:?*[\\", r) }) {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not a branch name", b).WithHint("see git help check-ref-format")
	}
	return nil
}

func (s projects) Project(ctx context.Context, nameOrID string) (sallyport.Project, error) {
	var p sallyport.Project
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		if p, err = tx.Projects().ByName(nameOrID); sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			p, err = tx.Projects().Get(sallyport.ProjectID(nameOrID))
		}
		return err
	})
	if err := s.e.allow(ctx, actRead, p.ID); err != nil { // also when there is none: nobody learns names
		return sallyport.Project{}, err
	}
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		return p, sallyport.Errorf(sallyport.CodeNotFound, "there is no project %.80q", nameOrID).WithHint("list them with: sallyport project list")
	}
	return p, err
}

func (s projects) Projects(ctx context.Context) ([]sallyport.Project, error) {
	if err := s.e.allow(ctx, actInstance, ""); err != nil {
		return nil, err
	}
	sees, err := s.e.sight(ctx)
	if err != nil {
		return nil, err
	}
	var out []sallyport.Project
	err = s.e.view(ctx, func(tx sallyport.Tx) error {
		all, err := tx.Projects().List()
		for _, p := range all {
			if sees(p.ID) {
				out = append(out, p)
			}
		}
		return err
	})
	return out, err
}

func (s projects) Reading(ctx context.Context, p sallyport.ProjectID) error {
	return s.e.allow(ctx, actFetch, p)
}

// Pushing refuses what git must not do: delete the default branch, or write
// refs outside refs/heads and refs/tags.
func (s projects) Pushing(ctx context.Context, id sallyport.ProjectID, updates []sallyport.RefUpdate) error {
	if err := s.e.allow(ctx, actPush, id); err != nil {
		return err
	}
	p, err := s.e.project(ctx, id)
	if err != nil {
		return err
	}
	for _, u := range updates {
		why := ""
		switch {
		case len(u.Ref) > maxRefName:
			why = fmt.Sprintf("the name of %.60s… is longer than %d bytes", u.Ref, maxRefName)
		case !strings.HasPrefix(u.Ref, "refs/heads/") && !strings.HasPrefix(u.Ref, "refs/tags/"):
			why = fmt.Sprintf("%s is neither a branch nor a tag", u.Ref)
		case u.Ref == p.DefaultRef() && u.New == sallyport.ZeroCommit:
			why = fmt.Sprintf("%s is protected and cannot be deleted", u.Ref)
		case strings.HasPrefix(u.Ref, "refs/tags/") && u.Old != sallyport.ZeroCommit:
			why = fmt.Sprintf("tag %s exists; tags do not move", u.Ref)
		}
		if why != "" {
			return s.refuse(ctx, id, u, why)
		}
	}
	return nil
}

// refuse records a ref update that is not taken, and returns the denial.
func (s projects) refuse(ctx context.Context, id sallyport.ProjectID, u sallyport.RefUpdate, why string) error {
	err := s.e.update(ctx, func(c *change) error {
		return c.record("push.refused", "project/"+string(id), map[string]string{"ref": clip(u.Ref, maxRefName), "new": clip(u.New, 64)})
	})
	if err != nil {
		return err
	}
	return sallyport.Errorf(sallyport.CodeDenied, "%s", why)
}

// Pushed takes in what git carried out. It believes the repository alone: an
// update whose ref does not stand at its new commit is refused, for a push that git
// never judged would get the ref's name into its provenance. It is idempotent: a
// repetition of an update that was taken in is ignored, so that Reconcile can
// hand in whatever a crash left between git and the store.
func (s projects) Pushed(ctx context.Context, id sallyport.ProjectID, updates []sallyport.RefUpdate) ([]sallyport.Push, error) {
	if err := s.e.allow(ctx, actPush, id); err != nil {
		return nil, err
	}
	p, err := s.e.project(ctx, id)
	if err != nil {
		return nil, err
	}
	refs, err := s.e.repos.Refs(ctx, p.ID) // nobody moves them meanwhile: git's caller holds the repository
	if err != nil {
		return nil, err
	}
	commits := make(map[string]sallyport.Commit) // read before the transaction
	for _, u := range updates {
		if refs[u.Ref] != commitOf(u.New) {
			return nil, s.refuse(ctx, id, u, fmt.Sprintf("%.200s does not stand at %.64s in the repository", u.Ref, u.New))
		}
		if id := commitOf(u.New); id != "" {
			if commits[id], err = s.e.repos.Commit(ctx, p.ID, id); err != nil {
				return nil, err
			}
		}
	}
	var pushes []sallyport.Push
	err = s.e.update(ctx, func(c *change) error {
		pushes = pushes[:0]
		known, err := c.Projects().Refs(id)
		if err != nil {
			return err
		}
		for _, u := range updates {
			if commitOf(u.New) == known[u.Ref] {
				continue
			}
			push, err := c.takeIn(ctx, p, u, known[u.Ref], commits[u.New])
			if err != nil {
				return err
			}
			if push != nil {
				pushes = append(pushes, *push)
			}
		}
		return nil
	})
	return pushes, err
}

func commitOf(id string) string {
	if id == sallyport.ZeroCommit {
		return ""
	}
	return id
}

// takeIn records one ref update and, unless it deletes the ref, makes its push.
func (c *change) takeIn(ctx context.Context, p sallyport.Project, u sallyport.RefUpdate, before string, head sallyport.Commit) (*sallyport.Push, error) {
	commit := commitOf(u.New)
	if err := c.Projects().SetRef(p.ID, u.Ref, commit); err != nil {
		return nil, err
	}
	detail := map[string]string{"ref": u.Ref, "before": before, "commit": commit}
	if commit == "" {
		return nil, c.record("ref.deleted", "project/"+string(p.ID), detail)
	}
	id := newID[sallyport.PushID](c)
	push := sallyport.Push{
		ID: id, Project: p.ID, Event: "push", Ref: u.Ref, Before: before, Commit: commit,
		Actor: sallyport.PrincipalFrom(ctx), Tier: tierOf(p, u.Ref),
		Key: "git/" + string(id), At: c.now,
	}
	push.Payload = pushPayload(repositoryPayload(p, p.Name), push, head)
	if err := c.Pushes().Insert(push); err != nil {
		return nil, err
	}
	detail["tier"] = string(push.Tier)
	if err := c.record("push.received", "push/"+string(push.ID), detail); err != nil {
		return nil, err
	}
	return &push, c.enqueue(sallyport.QueuePlan, string(push.ID), nil, c.now, stageAttempts)
}

// tierOf derives how far a ref's content is trusted.
func tierOf(p sallyport.Project, ref string) sallyport.Tier {
	if ref == p.DefaultRef() {
		return sallyport.TierProtected
	}
	return sallyport.TierMember
}

// Reconcile makes good what the end of the process before left: the river's
// work that it had in hand is free again at once, and ref updates that git
// carried out but intake never saw are taken in. The daemon calls it before
// serving, when no other engine works on the store.
func (e *Engine) Reconcile(ctx context.Context) error {
	ctx = system(ctx, "reconcile")
	if err := e.store.Update(ctx, func(tx sallyport.Tx) error { return tx.Work().Release(workOwner) }); err != nil {
		return fmt.Errorf("release the work of an earlier process: %w", err)
	}
	all, err := projects{e}.Projects(ctx)
	if err != nil {
		return err
	}
	for _, p := range all {
		refs, err := e.repos.Refs(ctx, p.ID)
		if err != nil {
			return fmt.Errorf("read refs of project %s: %w", p.Name, err)
		}
		var known map[string]string
		if err := e.view(ctx, func(tx sallyport.Tx) error {
			var err error
			known, err = tx.Projects().Refs(p.ID)
			return err
		}); err != nil {
			return err
		}
		var updates []sallyport.RefUpdate
		for ref, commit := range refs {
			if known[ref] != commit {
				updates = append(updates, sallyport.RefUpdate{Ref: ref, Old: known[ref], New: commit})
			}
		}
		for ref := range known {
			if _, ok := refs[ref]; !ok {
				updates = append(updates, sallyport.RefUpdate{Ref: ref, Old: known[ref], New: sallyport.ZeroCommit})
			}
		}
		if len(updates) == 0 {
			continue
		}
		sort.Slice(updates, func(i, j int) bool { return updates[i].Ref < updates[j].Ref })
		e.log.WarnContext(ctx, "refs changed without intake", "project", p.Name, "refs", len(updates))
		if _, err := (projects{e}).Pushed(ctx, p.ID, updates); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) project(ctx context.Context, id sallyport.ProjectID) (sallyport.Project, error) {
	var p sallyport.Project
	err := e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		p, err = tx.Projects().Get(id)
		return err
	})
	return p, err
}

// pushPayload is the event payload of a git push, in GitHub's shape as far as it is known.
func pushPayload(repository map[string]any, push sallyport.Push, commit sallyport.Commit) json.RawMessage {
	head := map[string]any{
		"id": commit.ID, "tree_id": commit.Tree, "message": strings.TrimRight(commit.Message, "\n"), "timestamp": commit.Timestamp,
		"author":    map[string]string{"name": commit.Author, "email": commit.Email},
		"committer": map[string]string{"name": commit.Author, "email": commit.Email},
	}
	before := push.Before
	if before == "" {
		before = sallyport.ZeroCommit
	}
	b, _ := json.Marshal(map[string]any{
		"ref": push.Ref, "before": before, "after": push.Commit, "created": push.Before == "", "deleted": false, "forced": false,
		"head_commit": head, "commits": []any{head},
		"repository": repository,
		"pusher":     map[string]string{"name": push.Actor.Name},
		"sender":     map[string]string{"login": push.Actor.Name},
	}) // maps of strings cannot fail
	return b
}
