// Package rpc is the wire between Sallyport's processes: the calls of the API,
// the form that their arguments, results and errors take in HTTP and JSON, and
// the Go client that implements the services and the yard over it.
//
// It is not the server: api serves the calls that are declared here, so that
// the two cannot drift apart. It decides nothing. The cli and the runner use it.
package rpc

import (
	"net/http"
	"time"
)

const (
	// Prefix is where the services live.
	Prefix = "/api/v1"
	// YardPrefix is where runners ask for work.
	YardPrefix = "/yard/v1"

	// MaxWait bounds how long a call waits for something to happen. It is below the
	// minute after which proxies give up.
	MaxWait = 50 * time.Second
	// MaxLogChunk bounds the bytes of one Log or AppendLog call.
	MaxLogChunk = 4 << 20
	// MaxBody bounds a JSON body in either direction unless the call says otherwise.
	MaxBody = 1 << 20
	// MaxReport bounds what a runner tells about its steps: 1,000 steps, each
	// with a summary and annotations that the runner has bounded.
	MaxReport = 32 << 20

	// HeaderLease carries the token of a lease.
	HeaderLease = "Sallyport-Lease"
	// HeaderDone says that nothing will follow a log's chunk: "true" or "false".
	HeaderDone = "Sallyport-Log-Done"
	// HeaderRequest carries the id under which the server logs a request.
	HeaderRequest = "Sallyport-Request"
)

// Call is one call of the API: In travels in the path, the query, the headers
// and a JSON body, as its fields are tagged; Out comes back as a JSON body.
type Call[In, Out any] struct {
	ID      string // operationId
	Method  string
	Path    string // with {placeholders}
	Summary string
	// MaxBody is the limit of the request's body, 0 for the general one.
	MaxBody int64
	// Repeatable says that the call may be sent again when its answer was lost.
	Repeatable bool
	// Lenient says that the body is not checked against its schema: a runner of
	// another version may say more than the server knows, and dispatch must be cheap.
	// What it says is bounded by the engine.
	Lenient bool
}

// None is the Out of a call that answers 204 without a body.
type None struct{}

// List is the Out of a call that answers several things.
type List[T any] struct {
	Items []T `json:"items" nullable:"false"`
}

func get[In, Out any](id, path, summary string) Call[In, Out] {
	return Call[In, Out]{ID: id, Method: http.MethodGet, Path: Prefix + path, Summary: summary, Repeatable: true}
}

func post[In, Out any](id, path, summary string) Call[In, Out] {
	return Call[In, Out]{ID: id, Method: http.MethodPost, Path: Prefix + path, Summary: summary}
}

func yard[In, Out any](id, path, summary string) Call[In, Out] {
	return Call[In, Out]{ID: id, Method: http.MethodPost, Path: YardPrefix + path, Summary: summary, MaxBody: MaxReport, Repeatable: true, Lenient: true}
}
