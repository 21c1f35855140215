package sallyport

import (
	"context"
	"io"
	"time"
)

// Target is where releases run. The engine decides, the target carries out.
//
// Contract. Every method is idempotent: the engine journals its intent, calls,
// and after a crash calls again with the same arguments. Apply never touches
// traffic; Shift alone does. What a target has started goes on when the
// control plane restarts, and List finds it again.
type Target interface {
	// Apply brings the release up beside what runs already, and returns when its
	// process was started; it says nothing about health. Content is read
	// from open and its digest checked against d.Digest while it is written.
	Apply(ctx context.Context, d Deployment, a Artifact, open func() (io.ReadCloser, error)) error
	// Check asks the instance once whether it is healthy, by its health path.
	Check(ctx context.Context, d Deployment) (Health, error)
	// Shift sets who gets the traffic of project and environment: percent by
	// deployment, 100 in sum. Instances that get none are drained, not stopped.
	// It returns the address at which the environment is served.
	Shift(ctx context.Context, project ProjectID, env EnvironmentSpec, weights map[DeploymentID]int) (url string, err error)
	// Traffic returns what the proxy saw of one deployment since the last Shift.
	Traffic(ctx context.Context, d DeploymentID) (Traffic, error)
	// Remove drains for d.Spec.Drain, stops the instance and frees what it used.
	Remove(ctx context.Context, d Deployment) error
	// List returns the instances that exist, for reconciliation at start.
	List(ctx context.Context) ([]Instance, error)
	// Log returns the last bytes (at most max) of the instance's output, untrusted.
	Log(ctx context.Context, d DeploymentID, max int64) ([]byte, error)
}

// Health is the outcome of one check.
type Health struct {
	OK      bool          `json:"ok"`
	Why     string        `json:"why,omitempty"` // one line
	Latency time.Duration `json:"latency"`
	At      time.Time     `json:"at"`
}

// Traffic counts requests that the proxy sent to one deployment.
type Traffic struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"` // 5xx, or no answer
	// ErrorsInARow is the length of the current run of errors.
	ErrorsInARow int64         `json:"errors_in_a_row"`
	P95          time.Duration `json:"p95"`
}

// Instance is a release that the target holds.
type Instance struct {
	Deployment DeploymentID `json:"deployment"`
	Running    bool         `json:"running"`
	Exit       string       `json:"exit,omitempty"` // how it ended
	Isolation  Isolation    `json:"isolation"`
}

// Files in a release's directory, by which a target and the release host that
// it started speak. All but the output are replaced atomically.
const (
	ReleaseSpecFile   = "spec.json"  // ReleaseSpec, written by the target
	ReleaseStateFile  = "state.json" // ReleaseState, written by the host
	ReleaseOutputFile = "output.log" // what the release wrote; older output in .1
	// ReleaseLockFile is locked (F_OFD_SETLK, fcntl(2)) for as long as the host
	// lives: without the lock it is gone, whatever the state says.
	ReleaseLockFile = "lock"
)

// ReleaseSpec asks a release host, a process of the yard, to run one release
// in a room of its own until it is told to stop.
type ReleaseSpec struct {
	Deployment DeploymentID  `json:"deployment"`
	Room       RoomSpec      `json:"room"` // Room.ID is a prefix: the host makes it unique for each start
	Argv       []string      `json:"argv"`
	Env        []EnvVar      `json:"env"`
	Dir        string        `json:"dir"`
	Grace      time.Duration `json:"grace"` // from SIGTERM to SIGKILL
}

// ReleasePhase is where a release host stands.
type ReleasePhase string

const (
	ReleaseStarting ReleasePhase = "starting" // makes the room
	ReleaseRunning  ReleasePhase = "running"
	ReleaseEnded    ReleasePhase = "ended" // final; the room is gone
)

// ReleaseState is what a release host says about its release. It is true only
// while the host holds the lock, or when Phase is ReleaseEnded.
type ReleaseState struct {
	Phase     ReleasePhase `json:"phase"`
	PID       int          `json:"pid"` // of the host
	StartedAt time.Time    `json:"started_at"`
	EndedAt   time.Time    `json:"ended_at,omitzero"`
	Exit      string       `json:"exit,omitempty"` // how it ended, one line
	Code      Code         `json:"code,omitempty"` // set when it could not be started
	Hint      string       `json:"hint,omitempty"`
	Isolation Isolation    `json:"isolation"`
}
