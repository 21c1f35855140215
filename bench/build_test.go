package bench

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// compileCost is the processor time that one package cost to build.
type compileCost struct {
	pkg string
	cpu time.Duration
}

// compileCosts reads what go build -debug-actiongraph wrote, dearest first.
func compileCosts(b *testing.B, file string) []compileCost {
	b.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	var actions []struct {
		Mode, Package   string
		CmdUser, CmdSys int64 // nanoseconds
	}
	if err := json.Unmarshal(raw, &actions); err != nil {
		b.Fatal(err)
	}
	var out []compileCost
	for _, a := range actions {
		if a.Mode == "build" || a.Mode == "link" {
			name := a.Package
			if a.Mode == "link" {
				name = "(linking)"
			}
			out = append(out, compileCost{name, time.Duration(a.CmdUser + a.CmdSys)})
		}
	}
	slices.SortFunc(out, func(x, y compileCost) int { return cmp.Compare(y.cpu, x.cpu) })
	return out
}

// BenchmarkSize is the size of the program and its runtime.
func BenchmarkSize(b *testing.B) {
	bin := program(b)
	for name, file := range map[string]string{"binary-MB": bin, "runtime-MB": filepath.Join(filepath.Dir(bin), "runc")} {
		info, err := os.Stat(file)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/1e6, name)
	}
	b.ReportMetric(0, "ns/op")
}
