package attest

import (
	"time"

	"github.com/sallyport-ci/sallyport"
)

// The predicates of our own types. Each has its JSON Schema in schema/; times
// are written in UTC. What is optional is left out when it is zero.

// PushPredicate says who pushed what where, and what was checked (push/v1).
// Subject: the commit.
type PushPredicate struct {
	Project    string         `json:"project"`
	Repository string         `json:"repository"`
	Ref        string         `json:"ref"`
	Before     string         `json:"before,omitempty"` // commit
	Event      string         `json:"event"`
	Actor      string         `json:"actor"` // sallyport.Principal.String
	Tier       sallyport.Tier `json:"tier"`
	Protected  bool           `json:"protected"` // the ref is protected
	Checks     []string       `json:"checks,omitempty"`
	At         time.Time      `json:"at"`
}

// PlanPredicate says that a workflow compiles to a plan (plan/v1). Subject: the
// plan, by its digest.
type PlanPredicate struct {
	Project  string         `json:"project"`
	Workflow WorkflowSource `json:"workflow"`
	Commit   string         `json:"commit"`
	Event    string         `json:"event"`
	Actions  []PlanAction   `json:"actions,omitempty"`
	Warnings int            `json:"warnings"`
	At       time.Time      `json:"at"`
}

// PlanAction is an action that the plan uses, as it was resolved.
type PlanAction struct {
	Uses   string               `json:"uses"`
	Kind   sallyport.ActionKind `json:"kind"`
	Digest map[string]string    `json:"digest,omitempty"`
}

// DeploymentPredicate says that an artifact was brought to an environment, and
// how it went (deployment/v1). Subject: the artifact.
type DeploymentPredicate struct {
	Project     string                    `json:"project"`
	Environment string                    `json:"environment"`
	Deployment  sallyport.DeploymentID    `json:"deployment"`
	Number      int64                     `json:"number"`
	Release     sallyport.ReleaseID       `json:"release"`
	Commit      string                    `json:"commit"`
	Verdict     sallyport.VerdictID       `json:"verdict"`
	State       sallyport.DeploymentState `json:"state"`
	Cause       string                    `json:"cause,omitempty"`
	RollbackOf  sallyport.DeploymentID    `json:"rollbackOf,omitempty"`
	Actor       string                    `json:"actor"`
	Strategy    string                    `json:"strategy"` // blue-green
	Weight      int                       `json:"weight"`   // percent of traffic
	StartedAt   time.Time                 `json:"startedAt,omitzero"`
	FinishedAt  time.Time                 `json:"finishedAt,omitzero"`
}

// HealthPredicate says how an artifact did in an environment (health/v1).
// Subject: the artifact.
type HealthPredicate struct {
	Project     string                 `json:"project"`
	Environment string                 `json:"environment"`
	Deployment  sallyport.DeploymentID `json:"deployment"`
	Healthy     bool                   `json:"healthy"`
	Cause       string                 `json:"cause,omitempty"`
	From        time.Time              `json:"from"`
	To          time.Time              `json:"to"`
	Checks      int64                  `json:"checks"`
	Failed      int64                  `json:"failed"`
	Requests    int64                  `json:"requests"`
	Errors      int64                  `json:"errors"`
	P95         float64                `json:"p95Milliseconds"`
}

// CachePredicate says which run saved an entry of the cache, and under what
// trust (cache/v1). Subject: the content.
type CachePredicate struct {
	Entry   sallyport.CacheID   `json:"entry"`
	Project sallyport.ProjectID `json:"project"`
	Key     string              `json:"key"`
	Version string              `json:"version"`
	Ref     string              `json:"ref"`
	Tier    sallyport.Tier      `json:"tier"`
	Size    int64               `json:"size"`
	Run     sallyport.RunID     `json:"run"`
	Job     sallyport.JobID     `json:"job"`
	At      time.Time           `json:"at"`
}

// PushStatement returns a statement about a commit that was pushed.
func PushStatement(commit string, p PushPredicate) ([]byte, error) {
	p.At = p.At.UTC()
	return Statement([]Subject{{Name: p.Ref, Commit: commit}}, sallyport.PredicatePush, p)
}

// PlanStatement returns a statement about a plan.
func PlanStatement(plan sallyport.Digest, p PlanPredicate) ([]byte, error) {
	p.At = p.At.UTC()
	return Statement([]Subject{{Name: p.Workflow.Path, Digest: plan}}, sallyport.PredicatePlan, p)
}

// DeploymentStatement returns a statement about a deployment of the subjects.
func DeploymentStatement(subjects []Subject, p DeploymentPredicate) ([]byte, error) {
	p.StartedAt, p.FinishedAt = p.StartedAt.UTC(), p.FinishedAt.UTC()
	return Statement(subjects, sallyport.PredicateDeployment, p)
}

// HealthStatement returns a statement about the health of the subjects.
func HealthStatement(subjects []Subject, p HealthPredicate) ([]byte, error) {
	p.From, p.To = p.From.UTC(), p.To.UTC()
	return Statement(subjects, sallyport.PredicateHealth, p)
}

// CacheStatement returns a statement about the content of a cache entry.
func CacheStatement(content sallyport.Digest, p CachePredicate) ([]byte, error) {
	p.At = p.At.UTC()
	return Statement([]Subject{{Name: string(p.Entry), Digest: content}}, sallyport.PredicateCache, p)
}
