package workflow

import (
	"encoding/json"
	"slices"

	sallyport "github.com/sallyport-ci/sallyport"
)

// narrow returns the cells that Plan.Only leaves, counted anew. Their contexts
// stay those of the whole matrix.
func narrow(cells []Cell, only map[string]string) []Cell {
	for key, want := range only {
		has := func(c Cell) bool { _, ok := c.value(key); return ok }
		if !slices.ContainsFunc(cells, has) {
			continue // a job without this key
		}
		cells = slices.DeleteFunc(cells, func(c Cell) bool {
			got, ok := c.value(key)
			return !ok || got != want
		})
	}
	for i := range cells {
		cells[i].Index = i
	}
	return cells
}

// value returns a value of the cell's matrix as text.
func (c Cell) value(key string) (string, bool) {
	matrix, err := FromJSON(c.Matrix)
	if err != nil {
		return "", false // our own encoding
	}
	v, ok := matrix.Get(key)
	return v.String(), ok
}

// Narrow sets Plan.Only; it is an error to name a key that no matrix of the
// plan can have.
func Narrow(p *sallyport.Plan, only map[string]string) error {
	for key := range only {
		if !slices.ContainsFunc(p.Jobs, func(j sallyport.PlanJob) bool { return mayHave(j, key) }) {
			return sallyport.Errorf(sallyport.CodeInvalid, "no matrix of %s has the key %.60q", p.Workflow.Path, key).WithHint("see what there is with: sallyport run --list")
		}
	}
	p.Only = only
	return nil
}

func mayHave(j sallyport.PlanJob, key string) bool {
	if j.Strategy.Dynamic {
		return true
	}
	return slices.ContainsFunc(j.Strategy.Cells, func(raw json.RawMessage) bool {
		_, ok := Cell{Matrix: raw}.value(key)
		return ok
	})
}
