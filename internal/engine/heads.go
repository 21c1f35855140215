package engine

import (
	"sync"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// heads remembers, for the head of each project's default branch, the workflows
// that wait for other runs, so that not every completed run reads the repository.
type heads struct {
	mu sync.Mutex
	by map[sallyport.ProjectID]tip
}

type tip struct {
	commit  string
	waiting []*workflow.File
}

// of returns what is remembered of a project's head, and reads it first if that
// is another commit.
func (h *heads) of(p sallyport.ProjectID, commit string, read func() ([]*workflow.File, error)) ([]*workflow.File, error) {
	h.mu.Lock()
	known, ok := h.by[p]
	h.mu.Unlock()
	if ok && known.commit == commit {
		return known.waiting, nil
	}
	waiting, err := read()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.by[p] = tip{commit, waiting}
	return waiting, nil
}
