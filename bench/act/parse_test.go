package act

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/nektos/act/pkg/model"
	"github.com/rhysd/actionlint"

	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// BenchmarkParse reads a workflow of 1,400 lines on each side in turns and
// reports the least processor time of a round, collection of garbage included.
// Ours is parsed with all its expressions and compiled for an event; actionlint's
// and act's are only parsed, act's without its expressions.
func BenchmarkParse(b *testing.B) {
	src, err := os.ReadFile("../../internal/workflow/testdata/bench/large.yml")
	if err != nil {
		b.Fatal(err)
	}
	sides := []struct {
		name  string
		parse func() bool
	}{
		{"ours", func() bool {
			f, _ := workflow.Parse("ci.yml", src)
			if f == nil {
				return false
			}
			plan, _ := workflow.Compile(workflow.CompileInput{File: f, Event: workflow.Event{Name: "push"}, Contexts: map[string]json.RawMessage{}})
			return plan != nil
		}},
		{"actionlint", func() bool {
			_, errs := actionlint.Parse(src)
			return len(errs) == 0
		}},
		{"act", func() bool {
			_, err := model.ReadWorkflow(bytes.NewReader(src), false)
			return err == nil
		}},
	}
	const rounds, times = 15, 20
	least := make([]time.Duration, len(sides))
	for i := range least {
		least[i] = math.MaxInt64
	}
	for range rounds {
		for i, side := range sides {
			runtime.GC() // of what the other sides have left
			start := processorTime(b)
			for range times {
				if !side.parse() {
					b.Fatalf("%s refuses the workflow", side.name)
				}
			}
			least[i] = min(least[i], (processorTime(b)-start)/times)
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, side := range sides {
		b.ReportMetric(float64(least[i].Microseconds())/1000, "ms-"+side.name)
	}
	b.ReportMetric(float64(least[1])/float64(least[0]), "x-actionlint")
	b.ReportMetric(float64(least[2])/float64(least[0]), "x-act")
}
