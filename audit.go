package sallyport

import (
	"encoding/json"
	"time"
)

// AuditRecord is one state change or one denied request. It is written in the
// transaction of the change it records; Seq is gap-free from 0 in commit order.
type AuditRecord struct {
	Seq    int64           `json:"seq"`
	At     time.Time       `json:"at"`
	Actor  string          `json:"actor"`
	Action string          `json:"action"` // "run.created", "access.denied", …
	Object string          `json:"object"` // "run/ID", "project/NAME", …
	Detail json.RawMessage `json:"detail,omitempty"`
	// Salt keeps the logged commitment from being guessed; it stays in the store.
	Salt []byte `json:"salt"`
	// LogIndex is the entry of the audit log that commits to the record, -1 until then.
	LogIndex int64 `json:"log_index"`
}

// AuditReport is the outcome of checking the audit trail against its log.
type AuditReport struct {
	OK       bool           `json:"ok"`
	Records  int64          `json:"records"`
	Logged   int64          `json:"logged"` // records the log commits to
	Size     int64          `json:"size"`   // entries of the log
	Root     string         `json:"root"`   // base64
	Problems []AuditProblem `json:"problems,omitempty"`
}

// AuditProblem names a record that is not as it was logged.
type AuditProblem struct {
	Seq  int64  `json:"seq"`  // -1 where no single record can be named
	Kind string `json:"kind"` // edited, deleted, reordered, truncated, rolled_back, log, witness
	Text string `json:"text"`
}
