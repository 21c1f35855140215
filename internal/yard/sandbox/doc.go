// Package sandbox makes rooms, OCI containers that are each used once: at the level
// "standard" by a pinned runc, at the level "strong" by gVisor's runsc (strong.go). The runner
// and the release host call it; the control plane never does.
//
// A room is built in four moves:
//
//  1. The keeper, one locked OS thread per room (one process when the runner
//     has no root), enters a mount and a network namespace of its own and pivots
//     into a small root (the stage) in which nothing of the host is left but
//     what the room may see. Nothing appears in the host's mount table, and
//     all of it vanishes with the keeper.
//  2. There it lays the room's root: a size- and inode-limited disk, over it
//     the allowlisted host view (host.go), the binds, the skeleton.
//  3. runc, executed from a sealed copy in memory, adds the user, pid, mount,
//     ipc, uts and cgroup namespaces, seccomp, capabilities and limits. The
//     network namespace is older than the user namespace, so that not even the
//     room's root holds a capability over it; an uplink (uplink.go) lies in it.
//     The seccomp filter is compiled once for a process (filter.go).
//  4. Our own binary, seen in the room as /.sallyport/init, becomes pid 1 and
//     forks steps on request over an inherited socket (package pidone). It ends when the
//     socket does, and with it every process of the room: a room never outlives
//     its runner.
//
// A room may be made ahead (pool.go); what only its job knows is put in when it is
// taken (movein.go).
//
// What pid 1 says is the room's word, not ours: the host's side bounds it and
// believes it no further than the job itself.
//
// What this host cannot enforce is listed in Isolation.NotEnforced; what the
// level cannot do without is refused with CodeUnavailable.
package sandbox
