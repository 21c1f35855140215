package sallyport

import (
	"context"
	"io"
)

// Scope says whose a blob is. It is bound to the ciphertext as associated
// data: a blob moved to another scope cannot be opened.
type Scope struct {
	Project string `json:"project"`
	Run     string `json:"run"`
	Name    string `json:"name"`
}

// Blobs keeps content by digest, sealed at rest. Content is immutable.
//
// Contract. A Put that returned nil survives a power cut. A Put that failed
// or was interrupted leaves nothing that Get would find. Get verifies: it
// never yields bytes that were not put under that scope and digest, and
// reports the fault as an error at the latest at the end of the stream.
// Errors: CodeNotFound; CodeInvalid when want does not match the content;
// CodeUnavailable when the disk is full.
type Blobs interface {
	// Put reads r to its end, at most max bytes (CodeInvalid beyond). want may be
	// "" or the digest that the content must have.
	Put(ctx context.Context, s Scope, r io.Reader, want Digest, max int64) (Digest, int64, error)
	Get(ctx context.Context, s Scope, d Digest) (io.ReadCloser, error)
	Stat(ctx context.Context, s Scope, d Digest) (size int64, err error)
	Delete(ctx context.Context, s Scope, d Digest) error
}

// Logs keeps the logs of jobs: sealed, append-only, addressed by offset. A job
// that is tried again has a log for each attempt: from the second on "." and the
// attempt's number stand behind the job's id.
type Logs interface {
	// Append writes data at offset. A repeated append of bytes that are already
	// there is ignored. It returns the end of the log; with CodeConflict when offset
	// is beyond it, and the caller goes on from the returned end.
	Append(ctx context.Context, j JobID, offset int64, data []byte) (end int64, err error)
	// Read returns at most max bytes from offset, fewer or none at the end.
	Read(ctx context.Context, j JobID, offset int64, max int) ([]byte, error)
	// Size returns the end of the log, 0 for none.
	Size(ctx context.Context, j JobID) (int64, error)
}
