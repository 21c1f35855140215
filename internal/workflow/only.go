package workflow

import (
	"slices"
	"strings"

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
// plan can have, or a value of it that is in no cell.
func Narrow(p *sallyport.Plan, only map[string]string) error {
	for key, value := range only {
		if err := canHave(p, key, value); err != nil {
			return err
		}
	}
	p.Only = only
	return nil
}

// canHave looks through the cells that are known by now.
func canHave(p *sallyport.Plan, key, value string) error {
	var there []string // values of the key
	for _, j := range p.Jobs {
		if j.Strategy.Dynamic {
			return nil
		}
		for _, raw := range j.Strategy.Cells {
			got, ok := Cell{Matrix: raw}.value(key)
			if ok && got == value {
				return nil
			}
			if ok && !slices.Contains(there, got) {
				there = append(there, got)
			}
		}
	}
	if len(there) == 0 {
		return sallyport.Errorf(sallyport.CodeInvalid, "no matrix of %s has the key %.60q", p.Workflow.Path, key).WithHint("see what there is with: sallyport run --list --json")
	}
	return sallyport.Errorf(sallyport.CodeInvalid, "no cell of a matrix of %s has the value %.60q for %.60q; there are %.300s", p.Workflow.Path, value, key, strings.Join(there, ", "))
}
