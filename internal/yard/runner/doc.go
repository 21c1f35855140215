// Package runner does jobs: it leases one from the control plane, prepares a room for it,
// runs its steps there with the meaning that GitHub Actions gives them, streams
// the redacted log and hands in the result.
//
// It decides nothing and holds no key. What it knows of a job came with the
// lease; what a job says (output, command files, artifacts, exit codes) is
// untrusted and is bounded here before it goes on. Git, tar and all else that
// reads the job's files runs inside the room; the runner itself only reads
// regular files beneath directories that it opened before the room was made.
//
// The daemon makes one Runner per process. The control plane is a
// [sallyport.Yard] over whatever transport, the room a [sallyport.Room].
package runner
