// Package firewall stands between the jobs of a runner and package registries. It
// speaks the registries' own protocols under their own names (Go modules, npm, Python's simple API, cargo's sparse
// index, Debian archives), judges each package version before its first byte reaches a job, verifies
// what it hands out, and keeps it for the next job.
//
// It opens no socket: the door of a room ends the connections and hands requests to
// Job.Handler, and what goes upstream goes through the RoundTripper that it is given. Which registries
// there are is read from the host's own client configuration by Discover. It publishes
// nothing: what is not GET or HEAD is refused.
//
// The runner calls it: one Firewall for its life, one Job for each lease.
package firewall
