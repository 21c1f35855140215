package sallyport

import (
	"os"
	"time"
)

// ProgramStart is a process of a room that is about to become another program, seen
// from outside the room. That the kernel then takes it is likely, not certain: the
// record is for the evidence, it forbids nothing.
type ProgramStart struct {
	Path      string // of the program in the room; of one that has no name what the kernel says instead
	Arguments Digest // of the arguments, each ended by a NUL: they may hold what is not to be kept
	// File is the program, open for reading; nil when it could not be looked at. It is the
	// receiver's to close.
	File *os.File
}

// Trace is what was seen of a job from outside its room: which programs ran and
// which files of the source were not what had been checked out any more. It is the
// runner's word, not the job's.
type Trace struct {
	Programs []Program      `json:"programs,omitempty"` // by path, then digest
	Starts   int            `json:"starts"`             // of all programs
	Source   *SourceState   `json:"source,omitempty"`   // nil: the job checked nothing out
	Changes  []SourceChange `json:"changes,omitempty"`  // by path
	// Lost counts programs and changes beyond what is kept one by one.
	Lost int `json:"lost,omitempty"`
	// Methods say how it was seen, sorted: seccomp, fanotify, stat. NotSeen says what was not, and why.
	Methods []string `json:"methods"`
	NotSeen []Gap    `json:"not_seen,omitempty"`
}

// Program is one program that ran in a job, however often.
type Program struct {
	Path   string `json:"path"`
	Digest Digest `json:"digest,omitempty"` // of its file; "" when it could not be read in time
	Starts int    `json:"starts"`
	Steps  []int  `json:"steps,omitempty"` // in which it was started, ascending; 0: between or beside several
	// Arguments are the digests of what it was started with, in the order in which they were first
	// seen; beyond a number they are only counted in Starts.
	Arguments []Digest `json:"arguments,omitempty"`
}

// SourceState is what a job had checked out.
type SourceState struct {
	Commit string `json:"commit"`
	Tree   string `json:"tree"`  // of the commit, by what git had written: the control plane compares it
	Files  int    `json:"files"` // tracked ones
	// Checked says when they were last compared: before the last artifact or at the job's end.
	Checked time.Time `json:"checked"`
}

// SourceChange is a tracked file that was changed in the job after it had been checked out.
type SourceChange struct {
	Path string `json:"path"`           // from the root of the repository
	How  string `json:"how"`            // modified, deleted, replaced (by a directory, a link, another mode), restored
	Step int    `json:"step,omitempty"` // in which it was first seen; 0: not known
	// Artifact is the first artifact that was made after it, "" when none was.
	Artifact string `json:"artifact,omitempty"`
}
