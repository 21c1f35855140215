package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// maxPayload is GitHub's limit of a webhook's payload.
const maxPayload = 25 << 20

// origin says where the code of a run comes from and how far the one who caused
// it is trusted. It is found in our own repository, never believed of a payload.
type origin struct {
	ref, commit string
	tier        sallyport.Tier
}

// eventPayload is what of a payload leads to the code to run.
type eventPayload struct {
	Action      string `json:"action"`
	Number      int64  `json:"number"`
	Ref         string `json:"ref"`
	RefType     string `json:"ref_type"`
	PullRequest struct {
		Number int64 `json:"number"`
		Base   struct {
			Ref  string      `json:"ref"`
			Repo payloadRepo `json:"repo"`
		} `json:"base"`
		Head struct {
			Ref  string      `json:"ref"`
			SHA  string      `json:"sha"`
			Repo payloadRepo `json:"repo"`
		} `json:"head"`
	} `json:"pull_request"`
	Release struct {
		Tag string `json:"tag_name"`
	} `json:"release"`
	MergeGroup struct {
		HeadRef string `json:"head_ref"`
		HeadSHA string `json:"head_sha"`
	} `json:"merge_group"`
}

type payloadRepo struct {
	FullName string `json:"full_name"`
}

// membersOnly are the events of the default branch that only somebody who may
// write to the repository can cause, and whose text is theirs. All others can be caused by
// anybody, if only through a program that reports about a fork's commit, and
// what they start is untrusted, though the code is the default branch's.
var membersOnly = map[string]bool{
	"repository_dispatch": true, "branch_protection_rule": true, "public": true,
}

// Deliver implements sallyport.Projects.
func (s projects) Deliver(ctx context.Context, id sallyport.ProjectID, d sallyport.Delivery) ([]sallyport.Run, error) {
	if err := s.e.allow(ctx, actOperate, id); err != nil {
		return nil, err
	}
	p, err := s.e.project(ctx, id)
	if err != nil {
		return nil, err
	}
	var payload eventPayload
	if len(d.Payload) == 0 {
		d.Payload = json.RawMessage("{}")
	}
	switch {
	case d.Event == "push" || d.Event == "workflow_dispatch" || d.Event == "schedule" || d.Event == "workflow_run" || d.Event == "workflow_call":
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s events are made here and not delivered", d.Event).
			WithHint("push with git, or start a workflow with: sallyport dispatch")
	case !workflow.IsEvent(d.Event):
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "there is no event %.60q", d.Event).WithHint("events have the names of GitHub's workflow syntax, such as pull_request")
	case len(d.Payload) > maxPayload:
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the payload has more than %d MiB", maxPayload>>20)
	case !bytes.HasPrefix(bytes.TrimSpace(d.Payload), []byte("{")) || json.Unmarshal(d.Payload, &payload) != nil:
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the payload is no event: a JSON object").WithHint("give the event as GitHub would send it")
	}
	if d.Action == "" {
		d.Action = payload.Action
	}
	from, err := s.e.originOf(ctx, p, d.Event, payload)
	if err != nil {
		return nil, err
	}
	push := sallyport.Push{
		Project: id, Event: d.Event, Action: d.Action, Ref: from.ref, Commit: from.commit, Tier: from.tier, Payload: d.Payload,
		Actor: sallyport.PrincipalFrom(ctx), At: s.e.now(),
	}
	push.ID = sallyport.NewID[sallyport.PushID](push.At)
	push.Key = "delivery/" + string(push.ID)
	if d.Key != "" {
		push.Key = "delivery/" + string(sallyport.DigestOf([]byte(d.Key)))
	}
	planned, err := s.e.Plan(ctx, push, Selection{})
	if err != nil {
		return nil, err
	}
	runs, err := s.e.startPush(ctx, push, planned)
	if d.Key != "" && sallyport.ErrorCode(err) == sallyport.CodeConflict {
		return s.e.started(ctx, push)
	}
	return runs, err
}

// started returns the runs of an event that was taken in before.
func (e *Engine) started(ctx context.Context, push sallyport.Push) (out []sallyport.Run, err error) {
	err = e.view(ctx, func(tx sallyport.Tx) error {
		first, err := tx.Pushes().ByKey(push.Project, push.Key)
		if err != nil {
			return err
		}
		out, err = tx.Runs().List(sallyport.RunFilter{Project: push.Project, Push: first.ID, Page: bound(sallyport.Page{Limit: 200})})
		return err
	})
	return out, err
}

var commitID = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// originOf finds the code that an event runs, as GitHub documents it ("Events
// that trigger workflows"). A pull request runs its head; pull_request_target
// and what anybody may cause run the base or default branch, untrusted.
func (e *Engine) originOf(ctx context.Context, p sallyport.Project, event string, payload eventPayload) (origin, error) {
	refs, err := e.repos.Refs(ctx, p.ID)
	if err != nil {
		return origin{}, err
	}
	at := func(ref string, tier sallyport.Tier) (origin, error) {
		commit, ok := refs[ref]
		if !ok {
			return origin{}, sallyport.Errorf(sallyport.CodeNotFound, "the repository has no %.100s, which the %s event is about", ref, event).
				WithHint("push it first")
		}
		return origin{ref, commit, lower(tier, tierOf(p, ref))}, nil
	}
	switch event {
	case "pull_request", "pull_request_review", "pull_request_review_comment":
		return e.pullRequest(ctx, p, refs, payload)
	case "pull_request_target":
		return at("refs/heads/"+shortRef(payload.PullRequest.Base.Ref), sallyport.TierUntrusted)
	case "release":
		return at("refs/tags/"+shortRef(payload.Release.Tag), sallyport.TierMember)
	case "create":
		kind := "refs/heads/"
		if payload.RefType == "tag" {
			kind = "refs/tags/"
		}
		return at(kind+shortRef(payload.Ref), sallyport.TierMember)
	case "merge_group":
		from, err := at(payload.MergeGroup.HeadRef, sallyport.TierMember)
		if err == nil && payload.MergeGroup.HeadSHA != "" && from.commit != payload.MergeGroup.HeadSHA {
			return origin{}, sallyport.Errorf(sallyport.CodeConflict, "%.100s has moved since the event", payload.MergeGroup.HeadRef)
		}
		return from, err
	}
	tier := sallyport.TierUntrusted
	if membersOnly[event] {
		tier = sallyport.TierProtected
	}
	return at(p.DefaultRef(), tier)
}

// pullRequest finds the head of a pull request. It is a member's when a branch of
// our own stands at it, whatever the payload says of forks.
func (e *Engine) pullRequest(ctx context.Context, p sallyport.Project, refs map[string]string, payload eventPayload) (origin, error) {
	head := payload.PullRequest.Head
	if !commitID.MatchString(head.SHA) {
		return origin{}, sallyport.Errorf(sallyport.CodeInvalid, "the payload has no pull_request.head.sha").WithHint("give the event as GitHub would send it")
	}
	if _, err := e.repos.Commit(ctx, p.ID, head.SHA); err != nil {
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			err = sallyport.Errorf(sallyport.CodeNotFound, "the repository does not hold %.12s, the head of the pull request", head.SHA).WithHint("push it first")
		}
		return origin{}, err
	}
	number := payload.Number
	if number == 0 {
		number = payload.PullRequest.Number
	}
	from := origin{fmt.Sprintf("refs/pull/%d/merge", number), head.SHA, sallyport.TierUntrusted}
	// A payload may lower the trust: a fork's branch can be named as one of ours and stand at the same commit.
	base := payload.PullRequest.Base.Repo.FullName
	own := head.Repo.FullName == "" || strings.EqualFold(head.Repo.FullName, base) || strings.EqualFold(head.Repo.FullName, p.Name)
	if ref := "refs/heads/" + strings.TrimPrefix(head.Ref, "refs/heads/"); own && refs[ref] == head.SHA {
		from.tier = sallyport.TierMember
	}
	return from, nil
}
