package attest

import (
	"encoding/json"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// ProvenanceInput is all that a SLSA v1 provenance says about a build. Every
// field is the control plane's own knowledge; only names of subjects may come
// from the job.
type ProvenanceInput struct {
	Builder        string            // Instance.BuilderID of the isolation that was enforced
	BuilderVersion map[string]string // component to version
	External       ExternalParameters
	Internal       InternalParameters
	// Dependencies are what went in: first the source commit, then actions, images, packages, caches.
	Dependencies []Resource
	Invocation   string // Instance.Job
	Started      time.Time
	Finished     time.Time
	Byproducts   []Resource // the log, by digest
}

// ExternalParameters is everything by which someone outside the control plane
// influenced the build. SLSA wants it complete: a verifier must refuse what it
// does not expect here.
type ExternalParameters struct {
	Workflow WorkflowSource `json:"workflow"`
	Event    string         `json:"event"`
	Action   string         `json:"action,omitempty"` // the event's activity type
	// Payload is the digest of the event as delivered.
	Payload map[string]string `json:"payload,omitempty"`
	Inputs  json.RawMessage   `json:"inputs,omitempty"` // workflow_dispatch inputs, an object
	Job     string            `json:"job"`              // key in the workflow
	Matrix  json.RawMessage   `json:"matrix,omitempty"` // the cell, an object
	// Variables are the names and values of configuration variables that the job could read.
	Variables map[string]string `json:"vars,omitempty"`
	// Secrets are the names of the secrets that were lent to the job.
	Secrets []string `json:"secrets,omitempty"`
}

// WorkflowSource is the workflow file as it was compiled.
type WorkflowSource struct {
	Repository string            `json:"repository"` // Instance.Repository
	Ref        string            `json:"ref"`
	Path       string            `json:"path"`
	Digest     map[string]string `json:"digest"` // of the file
}

// InternalParameters is what the control plane chose by itself.
type InternalParameters struct {
	Plan      map[string]string   `json:"plan"` // digest of the compiled plan
	Tier      sallyport.Tier      `json:"tier"`
	Runner    string              `json:"runner"`
	Attempt   int                 `json:"attempt"`
	Isolation sallyport.Isolation `json:"isolation"`
	// Network is what the job could reach outside its room.
	Network *Network `json:"network,omitempty"`
	// AssertedBy is "job" when only a job says that the subjects came of it.
	AssertedBy string `json:"assertedBy,omitempty"`
}

// Network is what a job could reach outside its room, and what of it the statement does not name.
type Network struct {
	Level sallyport.EgressLevel `json:"level"`
	// Observe marks a build that was let through to hosts that no rule allows.
	Observe bool `json:"observe,omitempty"`
	// Rules is the digest of the rules file of the protected branch at RulesCommit; absent
	// when the project declares none.
	Rules       map[string]string `json:"rules,omitempty"`
	RulesCommit string            `json:"rulesCommit,omitempty"`
	// Credentials are the names of those that were used at the door, Denied how often the door refused something.
	Credentials []string `json:"credentials,omitempty"`
	// Exposed are those whose value the job held itself.
	Exposed []string `json:"exposed,omitempty"`
	Denied  int      `json:"denied,omitempty"`
	// Packages counts those that were fetched; Unnamed those of them that the dependencies do not
	// name, for there were too many.
	Packages int `json:"packages,omitempty"`
	Unnamed  int `json:"unnamed,omitempty"`
}

type provenance struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string             `json:"buildType"`
	ExternalParameters   ExternalParameters `json:"externalParameters"`
	InternalParameters   InternalParameters `json:"internalParameters"`
	ResolvedDependencies []Resource         `json:"resolvedDependencies"`
}

type runDetails struct {
	Builder    builder       `json:"builder"`
	Metadata   buildMetadata `json:"metadata"`
	Byproducts []Resource    `json:"byproducts,omitempty"`
}

type builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

type buildMetadata struct {
	InvocationID string `json:"invocationId"`
	StartedOn    string `json:"startedOn"`
	FinishedOn   string `json:"finishedOn"`
}

// Provenance returns a statement of SLSA v1 provenance about what a job made.
// CodeInvalid when something that a verifier needs is missing.
func Provenance(subjects []Subject, in ProvenanceInput) ([]byte, error) {
	w := in.External.Workflow
	for name, missing := range map[string]bool{
		"builder":             in.Builder == "",
		"workflow repository": w.Repository == "",
		"workflow ref":        w.Ref == "",
		"workflow path":       w.Path == "",
		"workflow digest":     len(w.Digest) == 0,
		"event":               in.External.Event == "",
		"job":                 in.External.Job == "",
		"plan digest":         len(in.Internal.Plan) == 0,
		"isolation level":     in.Internal.Isolation.Level == "",
		"source commit":       len(in.Dependencies) == 0,
		"invocation":          in.Invocation == "",
		"start":               in.Started.IsZero(),
		"end":                 in.Finished.IsZero(),
	} {
		if missing {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the provenance has no %s", name)
		}
	}
	return Statement(subjects, sallyport.PredicateProvenance, provenance{
		BuildDefinition: buildDefinition{
			BuildType:            BuildType,
			ExternalParameters:   in.External,
			InternalParameters:   in.Internal,
			ResolvedDependencies: in.Dependencies,
		},
		RunDetails: runDetails{
			Builder:    builder{ID: in.Builder, Version: in.BuilderVersion},
			Metadata:   buildMetadata{InvocationID: in.Invocation, StartedOn: timestampText(in.Started), FinishedOn: timestampText(in.Finished)},
			Byproducts: in.Byproducts,
		},
	})
}

// timestampText is RFC 3339 in UTC with seconds, as in-toto timestamps are written.
func timestampText(t time.Time) string { return t.UTC().Format(time.RFC3339) }
