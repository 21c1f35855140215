package sallyport

import "time"

// Release is an artifact with the verdict about it: the unit of deployment. One
// whose verdict is not allow is refused, or waits until people have said yes and the gate has judged again.
type Release struct {
	ID         ReleaseID  `json:"id"`
	Project    ProjectID  `json:"project"`
	Run        RunID      `json:"run"`
	Artifact   string     `json:"artifact"` // name
	ArtifactID ArtifactID `json:"artifact_id"`
	Digest     Digest     `json:"digest"`
	Commit     string     `json:"commit"`
	Verdict    VerdictID  `json:"verdict"`
	CreatedAt  time.Time  `json:"created_at"`
}

// DeploymentState is where a deployment stands.
type DeploymentState string

const (
	DeployWaiting    DeploymentState = "waiting"     // for people, a timer or hours; nothing was started
	DeployPending    DeploymentState = "pending"     // enqueued
	DeployApplying   DeploymentState = "applying"    // verified again; the target starts it beside the old one
	DeployWatching   DeploymentState = "watching"    // takes all traffic; still on trial
	DeployLive       DeploymentState = "live"        // healthy
	DeployRefused    DeploymentState = "refused"     // the gate or the second verification said no; nothing was started
	DeployFailed     DeploymentState = "failed"      // never took traffic
	DeployRolledBack DeploymentState = "rolled_back" // took traffic and was unhealthy; the traffic goes back to the last healthy release
	DeploySuperseded DeploymentState = "superseded"  // a later deployment took over
)

var deployNext = map[DeploymentState][]DeploymentState{
	"":             {DeployPending, DeployWaiting},
	DeployWaiting:  {DeployPending, DeployRefused, DeployFailed, DeploySuperseded},
	DeployPending:  {DeployApplying, DeployRefused, DeployFailed, DeploySuperseded},
	DeployApplying: {DeployWatching, DeployFailed},
	DeployWatching: {DeployLive, DeployRolledBack},
	DeployLive:     {DeploySuperseded, DeployRolledBack},
}

// CanBecome reports whether a deployment in s may go to next.
func (s DeploymentState) CanBecome(next DeploymentState) bool {
	for _, n := range deployNext[s] {
		if n == next {
			return true
		}
	}
	return false
}

// Final reports whether nothing follows s but being superseded or rolled back by a later deployment.
func (s DeploymentState) Final() bool {
	switch s {
	case DeployWaiting, DeployPending, DeployApplying, DeployWatching:
		return false
	default:
		return true
	}
}

// Deployment brings one release to one environment. A rollback is a new,
// forward deployment of the last healthy release: RollbackOf names what it replaces.
type Deployment struct {
	ID          DeploymentID    `json:"id"`
	Project     ProjectID       `json:"project"`
	Environment string          `json:"environment"`
	Release     ReleaseID       `json:"release"`
	Digest      Digest          `json:"digest"`
	Commit      string          `json:"commit"`
	Number      int64           `json:"number"` // counts up within project and environment
	State       DeploymentState `json:"state"`
	Cause       string          `json:"cause,omitempty"`
	RollbackOf  DeploymentID    `json:"rollback_of,omitempty"`
	Actor       string          `json:"actor"`
	Weight      int             `json:"weight"` // percent of traffic
	Spec        EnvironmentSpec `json:"spec"`
	CreatedAt   time.Time       `json:"created_at"`
	StartedAt   time.Time       `json:"started_at,omitzero"`
	FinishedAt  time.Time       `json:"finished_at,omitzero"`
}
