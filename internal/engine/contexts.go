package engine

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// githubContext builds the github context as far as the control plane knows
// it; the runner adds what is known on the spot (workspace, action, …). Names
// are GitHub's: "Contexts reference", github context.
func (e *Engine) githubContext(p sallyport.Project, push sallyport.Push, r sallyport.Run) json.RawMessage {
	refType, refName := refParts(push.Ref)
	name := e.fullName(p)
	base := strings.TrimRight(e.baseURL, "/")
	g := map[string]any{
		"actor":               push.Actor.Name,
		"actor_id":            push.Actor.ID,
		"triggering_actor":    push.Actor.Name,
		"event_name":          push.Event,
		"event":               json.RawMessage(push.Payload),
		"ref":                 push.Ref,
		"ref_name":            refName,
		"ref_type":            refType,
		"ref_protected":       push.Tier.Covers(sallyport.TierProtected),
		"sha":                 push.Commit,
		"base_ref":            baseRef(push.Payload),
		"head_ref":            headRef(push.Payload),
		"repository":          name,
		"repository_owner":    ownerOf(name),
		"repository_owner_id": ownerOf(name), // an owner is no more than a name here
		"repository_id":       string(p.ID),
		"repositoryUrl":       base + "/" + name + ".git",
		"server_url":          base,
		"api_url":             base + "/api/v1",
		"graphql_url":         base + "/api/graphql",
		"run_id":              runNumber(r),
		"run_number":          runNumber(r),
		"run_attempt":         "1",
		"retention_days":      "90",
		"workflow":            r.Name,
		"workflow_ref":        name + "/" + r.Workflow + "@" + push.Ref,
		"workflow_sha":        push.Commit,
		"secret_source":       "None",
		"token":               "",
		"default_branch_name": p.DefaultBranch,
	}
	return mustJSON(g)
}

// runNumber is what a run is called in its project. Actions read github.run_id as a number, so it is this, and not
// the run's id.
func runNumber(r sallyport.Run) string { return strconv.FormatInt(r.Number, 10) }

// fullName is what github.repository calls a project.
func (e *Engine) fullName(p sallyport.Project) string {
	if e.repository != "" {
		return e.repository
	}
	return p.Name
}

func ownerOf(name string) string {
	owner, _, _ := strings.Cut(name, "/")
	return owner
}

func refParts(ref string) (kind, name string) {
	if n, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		return "tag", n
	}
	if n, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		return "branch", n
	}
	if n, ok := strings.CutPrefix(ref, "refs/pull/"); ok {
		return "branch", n
	}
	return "branch", strings.TrimPrefix(ref, "refs/")
}

type pullRequestPayload struct {
	PullRequest struct {
		Base struct {
			Ref string `json:"ref"`
		} `json:"base"`
		Head struct {
			Ref string `json:"ref"`
		} `json:"head"`
	} `json:"pull_request"`
}

func baseRef(payload []byte) string {
	var v pullRequestPayload
	_ = json.Unmarshal(payload, &v) // a payload without the field has no base
	return v.PullRequest.Base.Ref
}

func headRef(payload []byte) string {
	var v pullRequestPayload
	_ = json.Unmarshal(payload, &v)
	return v.PullRequest.Head.Ref
}

// runContexts are the contexts that are the same for every job of the run.
func (e *Engine) runContexts(p sallyport.Project, push sallyport.Push, r sallyport.Run, plan *sallyport.Plan) map[string]json.RawMessage {
	inputs := plan.Inputs
	if len(inputs) == 0 {
		inputs = json.RawMessage("{}")
	}
	if plan.Event == "workflow_dispatch" {
		push.Payload = withInputs(push.Payload, inputs)
	}
	return map[string]json.RawMessage{
		"github": e.githubContext(p, push, r),
		"inputs": inputs,
		"vars":   mustJSON(nonNil(e.vars)),
	}
}

// withInputs puts the inputs into the payload as GitHub does: all of them, as text.
func withInputs(payload []byte, inputs json.RawMessage) json.RawMessage {
	typed, err := workflow.FromJSON(inputs)
	if err != nil {
		return payload // a plan's inputs are JSON
	}
	var texts []workflow.Entry
	for _, e := range typed.Entries() {
		texts = append(texts, workflow.Entry{Key: e.Key, Value: workflow.String(e.Value.String())})
	}
	var event map[string]json.RawMessage
	_ = json.Unmarshal(payload, &event) // one of another shape gives way
	if event == nil {
		event = map[string]json.RawMessage{}
	}
	event["inputs"], _ = workflow.Object(texts...).MarshalJSON()
	return mustJSON(event)
}

func (e *Engine) runScope(p sallyport.Project, push sallyport.Push, r sallyport.Run, plan *sallyport.Plan) (*workflow.Scope, error) {
	return workflow.NewScope(e.runContexts(p, push, r, plan))
}
