package sallyport

import "time"

// EnvironmentSpec declares where and how a release runs. It is read from
// .sallyport/deploy.yaml on the protected branch and kept with each deployment.
// One without an artifact only has rules, for the jobs that name it.
type EnvironmentSpec struct {
	Name     string        `json:"name"`
	Artifact string        `json:"artifact"`          // name of the artifact to deploy
	Workflow string        `json:"workflow"`          // path of the workflow that must have built it
	Command  []string      `json:"command,omitempty"` // argv inside the release's room; default: the artifact's one file
	Env      []EnvVar      `json:"env,omitempty"`
	Port     int           `json:"port"`             // the port it listens on in its room; also in $PORT
	Listen   string        `json:"listen,omitempty"` // where the traffic proxy serves it; "" = a free loopback port, kept
	Health   HealthSpec    `json:"health"`
	Drain    time.Duration `json:"drain"` // how long old connections may finish
	EntryRules
	// Audiences are those for which jobs of the environment may have ID tokens. Nil: those of
	// the project.
	Audiences Audiences `json:"audiences,omitzero"`
	// SealedSource wants proof that no job changed a tracked file before it made the artifact.
	SealedSource bool `json:"sealed_source,omitempty"`
}

// EntryRules say who and what may enter an environment, and when.
type EntryRules struct {
	// Approval is set when somebody must say yes before a job or a release enters: Needed
	// distinct people (0 is 1) of Reviewers, which are person/NAME and team/NAME; none are all
	// whom policies let approve.
	Approval  bool     `json:"approval,omitempty"`
	Needed    int      `json:"needed,omitempty"`
	Reviewers []string `json:"reviewers,omitempty"`
	// Refs are patterns of the refs whose jobs may enter, none for all.
	Refs  []string      `json:"refs,omitempty"`
	Wait  time.Duration `json:"wait,omitempty"`  // after it was ready
	Hours Windows       `json:"hours,omitempty"` // in which it may
}

// Votes is how many people must say yes.
func (r EntryRules) Votes() int {
	if !r.Approval {
		return 0
	}
	return max(r.Needed, 1)
}

// Holds reports whether the rules may let something wait.
func (r EntryRules) Holds() bool { return r.Approval || r.Wait > 0 || len(r.Hours) > 0 }

// EnvVar is one environment variable; a list keeps the order of the file.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// HealthSpec says when a release counts as healthy.
type HealthSpec struct {
	Path     string        `json:"path"`     // GET must answer 2xx
	Interval time.Duration `json:"interval"` // between checks
	Healthy  int           `json:"healthy"`  // successes in a row before it gets traffic
	Startup  time.Duration `json:"startup"`  // time to become healthy
	Watch    time.Duration `json:"watch"`    // trial time under full traffic
	// MaxErrors is the number of failed checks or 5xx answers of real traffic
	// in a row that ends the trial.
	MaxErrors int `json:"max_errors"`
}

// Environment is a place where releases run, as it is now.
type Environment struct {
	Project  ProjectID    `json:"project"`
	Name     string       `json:"name"`
	URL      string       `json:"url,omitempty"`
	Live     DeploymentID `json:"live,omitempty"`     // takes the traffic
	Previous DeploymentID `json:"previous,omitempty"` // last healthy one before it
	At       time.Time    `json:"at"`
}
