// Package door is the only way out of a room. It holds the far end of the room's
// uplink and decides about every packet that comes out of it: names are answered
// by the rules and by nobody else, each with an address that means this name in this
// door alone; a connection to such an address is one to that name, which the door
// itself resolves and dials; everything else is refused at once and recorded.
//
// It knows rules and handlers that it is given, and no registry, credential or
// control plane: the runner composes it with those. One Door serves one job, whose
// rooms may be several.
//
// A packet meets, in this order: packet.go, which answers what needs no connection
// (questions for names, refusals); the user-mode TCP of gVisor (stack.go), which is
// made when a connection is allowed for the first time; flow.go, which looks at what
// is spoken; and then a relay, a handler that was given, or proxy.go, which reads requests.
//
// A panic while a packet or a flow is looked at closes that job's door and no other.
// One in a goroutine of the TCP stack itself cannot be caught from outside: it ends the
// runner's process, and with it the jobs beside it.
package door
