package sallyport

import "time"

// Work is one piece of background work: a stage of the river to run, or a job
// for a runner. It is enqueued in the transaction that makes it necessary and
// done at least once; Token fences a worker that lost its lease.
type Work struct {
	ID          WorkID    `json:"id"`
	Queue       string    `json:"queue"`   // who may take it: a stage's name, or "runner"
	Key         string    `json:"key"`     // at most one unfinished piece per queue and key
	Subject     string    `json:"subject"` // id of the noun to work on
	Labels      []string  `json:"labels,omitempty"`
	RunAt       time.Time `json:"run_at"`
	Attempt     int       `json:"attempt"`
	MaxAttempts int       `json:"max_attempts"`
	Owner       string    `json:"owner,omitempty"`
	Token       string    `json:"-"`
	LeaseUntil  time.Time `json:"lease_until,omitzero"`
	LastError   string    `json:"last_error,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
}

// Queues of work.
const (
	QueuePlan    = "plan"
	QueueRunner  = "runner"
	QueueCollect = "collect"
	QueueGate    = "gate"
	QueueDeploy  = "deploy"
	QueueWatch   = "watch"
	// QueueSchedule looks at a project's schedules, QueueFollow at what follows a run (workflow_run).
	QueueSchedule = "schedule"
	QueueFollow   = "follow"
	// QueueAdmit opens requests of approval, and lets through what they and the clock allow.
	QueueAdmit = "admit"
	// QueueRevoke takes back what was handed out under a grant that is over.
	QueueRevoke = "revoke"
	// QueueForget deletes the content of cache entries that are gone.
	QueueForget = "forget"
	// QueueRotate rotates secrets.
	QueueRotate = "rotate"
)
