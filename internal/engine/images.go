package engine

import (
	"context"
	"io"
	"sync"

	"github.com/sallyport-ci/sallyport"
)

// resolved remembers which image a reference named when a run first asked, so
// that all its jobs get the same one, and no runner can have the control plane fetch
// what no image of its run is made of.
type resolved struct {
	mu   sync.Mutex
	runs map[sallyport.RunID]map[string]sallyport.Image
	old  []sallyport.RunID // in order of first use
}

// Bounds of what is remembered; a run that is forgotten resolves again.
const (
	maxResolvedRuns   = 500
	maxResolvedImages = 50
)

func (m *resolved) get(r sallyport.RunID, reference string) (sallyport.Image, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, ok := m.runs[r][reference]
	return i, ok
}

// put keeps an image unless there is one already, and returns what is kept.
func (m *resolved) put(r sallyport.RunID, i sallyport.Image) (sallyport.Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, ok := m.runs[r][i.Reference]; ok {
		return known, nil
	}
	if m.runs[r] == nil {
		if len(m.old) == maxResolvedRuns {
			delete(m.runs, m.old[0])
			m.old = m.old[1:]
		}
		m.runs[r] = map[string]sallyport.Image{}
		m.old = append(m.old, r)
	}
	if len(m.runs[r]) == maxResolvedImages {
		return sallyport.Image{}, sallyport.Errorf(sallyport.CodeInvalid, "the run uses more than %d images", maxResolvedImages)
	}
	m.runs[r][i.Reference] = i
	return i, nil
}

// Image implements sallyport.Yard.
func (y yard) Image(ctx context.Context, l sallyport.LeaseRef, reference string) (sallyport.Image, error) {
	if err := y.e.allow(ctx, actYard, ""); err != nil {
		return sallyport.Image{}, err
	}
	j, r, err := y.e.peek(ctx, l)
	if err != nil {
		return sallyport.Image{}, err
	}
	if y.e.images == nil {
		return sallyport.Image{}, sallyport.Errorf(sallyport.CodeUnavailable, "this installation fetches no images")
	}
	if i, ok := y.e.resolved.get(r.ID, reference); ok {
		return i, nil
	}
	i, err := y.e.images.Resolve(ctx, reference, r.Tier == sallyport.TierUntrusted) // the host's credentials are for members
	if err != nil {
		return i, err
	}
	if err := y.e.update(ctx, func(c *change) error {
		return c.record("image.resolved", "job/"+string(j.ID), map[string]any{"run": r.ID, "reference": clip(reference, 512), "name": i.Name, "digest": i.Digest})
	}); err != nil {
		return i, err
	}
	return y.e.resolved.put(r.ID, i)
}

// ImageLayer implements sallyport.Yard.
func (y yard) ImageLayer(ctx context.Context, l sallyport.LeaseRef, reference string, d sallyport.Digest) (io.ReadCloser, error) {
	if err := y.e.allow(ctx, actYard, ""); err != nil {
		return nil, err
	}
	_, r, err := y.e.peek(ctx, l)
	if err != nil {
		return nil, err
	}
	i, ok := y.e.resolved.get(r.ID, reference)
	if !ok {
		return nil, sallyport.Errorf(sallyport.CodeNotFound, "the run has not asked for the image %.200q", reference)
	}
	for _, layer := range i.Layers {
		if layer.Digest == d {
			return y.e.images.Layer(ctx, i, d)
		}
	}
	return nil, sallyport.Errorf(sallyport.CodeNotFound, "the image %.200q has no such layer", reference)
}
