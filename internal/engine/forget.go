package engine

import (
	"context"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// forgetSubject names content that belongs to nothing any more: there is no
// noun left that could be asked where it is.
func forgetSubject(c sallyport.CacheEntry) string {
	return string(c.Project) + " " + string(c.ID) + " " + string(c.Digest)
}

// forget is the stage that deletes the content of cache entries that were
// removed. Who reads it at this moment reads it to its end.
func (e *Engine) forget(ctx context.Context, w sallyport.Work) error {
	f := strings.Split(w.Subject, " ")
	if len(f) != 3 {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.100q names no content", w.Subject)
	}
	gone := sallyport.CacheEntry{Project: sallyport.ProjectID(f[0]), ID: sallyport.CacheID(f[1])}
	err := e.blobs.Delete(ctx, gone.Scope(), sallyport.Digest(f[2]))
	if err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound { // else it was done before
		return err
	}
	return e.finish(ctx, w, func(*change) error { return nil })
}

// forgetFailed gives up on content that cannot be deleted: it is out of reach of
// every job, and takes room on the disk.
func (e *Engine) forgetFailed(ctx context.Context, w sallyport.Work, _ error) error {
	return e.finish(ctx, w, func(*change) error { return nil })
}
