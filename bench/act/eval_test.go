// Package act measures our evaluator of expressions against that of act, on the
// same expressions and values. It is a module of its own, because act brings
// what the product must not.
//
//	cd bench/act && go test -run '^$' -bench .
package act

import (
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nektos/act/pkg/exprparser"
	"github.com/nektos/act/pkg/model"

	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// cases are expressions as workflows have them, and what both sides say.
var cases = []struct{ expr, want string }{
	{"true", "true"},
	{"github.ref", `"refs/heads/main"`},
	{"github.event_name == 'push'", "true"},
	{"github.event_name == 'push' && github.ref == 'refs/heads/main'", "true"},
	{"github.event_name == 'push' && startsWith(github.ref, 'refs/heads/')", "true"},
	{"github.event_name != 'pull_request' || github.event.pull_request.head.repo.fork == false", "true"},
	{"github.event.pull_request.number || github.run_id", `"17"`},
	{"!contains(github.event.head_commit.message, '[skip]')", "true"},
	{"contains(github.event.commits.*.author.name, 'Ann')", "true"},
	{"contains(fromJSON('[\"ubuntu-latest\",\"ubuntu-22.04\"]'), matrix.os)", "true"},
	{"format('{0}-{1}-{2}', matrix.os, matrix.go, github.sha)", `"ubuntu-latest-1.26-0123456789abcdef0123456789abcdef01234567"`},
	{"matrix.race && '-race' || ''", `"-race"`},
	{"matrix.os == 'ubuntu-latest' && (matrix.go == '1.26' || matrix.race)", "true"},
	{"needs.build.outputs.version", `"1.2.3"`},
	{"needs.build.result == 'success' && needs.test.result != 'failure'", "true"},
	{"fromJSON(needs.build.outputs.list)[1]", `"b"`},
	{"join(github.event.commits.*.id, ', ')", `"a, b, c"`},
	{"toJSON(matrix)", ""}, // the order of keys is not act's to keep
	{"steps.cache.outputs.cache-hit != 'true'", "true"},
	{"env.CI == 'true' && runner.os == 'Linux'", "true"},
	{"endsWith(github.repository, '/hello') && inputs.level > 2", "true"},
	{"(github.event_name == 'push' || github.event_name == 'schedule') && !startsWith(github.ref, 'refs/tags/v')", "true"},
}

const event = `{"head_commit":{"message":"mend the thing"},"commits":[{"id":"a","author":{"name":"Bob"}},{"id":"b","author":{"name":"Ann"}},{"id":"c","author":{"name":"Eve"}}]}`

const contexts = `{
	"github": {"event_name":"push","ref":"refs/heads/main","sha":"0123456789abcdef0123456789abcdef01234567","run_id":"17","repository":"acme/hello","event":` + event + `},
	"matrix": {"os":"ubuntu-latest","go":"1.26","race":true},
	"needs": {"build":{"result":"success","outputs":{"version":"1.2.3","list":"[\"a\",\"b\"]"}},"test":{"result":"success","outputs":{}}},
	"steps": {"cache":{"outputs":{"cache-hit":"false"},"outcome":"success","conclusion":"success"}},
	"env": {"CI":"true"},
	"runner": {"os":"Linux"},
	"inputs": {"level":3}
}`

// evaluator evaluates one expression and returns its value as JSON if asked to.
type evaluator func(expr string, show bool) (string, error)

func ours(tb testing.TB) evaluator {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(contexts), &raw); err != nil {
		tb.Fatal(err)
	}
	scope, err := workflow.NewScope(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return func(expr string, show bool) (string, error) {
		v, err := workflow.Eval(expr, scope)
		if err != nil || !show {
			return "", err
		}
		out, err := v.MarshalJSON()
		return string(out), err
	}
}

func acts(tb testing.TB) evaluator {
	var values struct {
		Github model.GithubContext
		Matrix map[string]any
		Needs  map[string]exprparser.Needs
		Steps  map[string]*model.StepResult
		Env    map[string]string
		Runner map[string]any
		Inputs map[string]any
	}
	// its contexts are Go structs with tags of their own
	raw := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(contexts), &raw); err != nil {
		tb.Fatal(err)
	}
	steps := raw["steps"]
	delete(raw, "steps")
	rest, err := json.Marshal(raw)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(rest, &values); err != nil {
		tb.Fatal(err)
	}
	var outputs map[string]struct{ Outputs map[string]string }
	if err := json.Unmarshal(steps, &outputs); err != nil {
		tb.Fatal(err)
	}
	values.Steps = map[string]*model.StepResult{}
	for id, s := range outputs {
		values.Steps[id] = &model.StepResult{Outputs: s.Outputs}
	}
	in := exprparser.NewInterpeter(&exprparser.EvaluationEnvironment{
		Github: &values.Github, Matrix: values.Matrix, Needs: values.Needs, Steps: values.Steps,
		Env: values.Env, Runner: values.Runner, Inputs: values.Inputs,
	}, exprparser.Config{})
	return func(expr string, show bool) (string, error) {
		v, err := in.Evaluate(expr, exprparser.DefaultStatusCheckNone)
		if err != nil || !show {
			return "", err
		}
		out, err := json.Marshal(v)
		return string(out), err
	}
}

func TestBothSayTheSame(t *testing.T) {
	for name, eval := range map[string]evaluator{"ours": ours(t), "act": acts(t)} {
		for _, c := range cases {
			got, err := eval(c.expr, true)
			if err != nil || c.want != "" && got != c.want {
				t.Errorf("%s: %s = %s (%v), want %s", name, c.expr, got, err, c.want)
			}
		}
	}
}

// BenchmarkExpr parses and evaluates each case on both sides in turns and
// reports the least processor time of a round, collection of garbage included.
func BenchmarkExpr(b *testing.B) {
	sides := [2]evaluator{ours(b), acts(b)}
	const rounds = 25
	var total [2]time.Duration
	var ratios []float64
	for _, c := range cases {
		least := [2]time.Duration{math.MaxInt64, math.MaxInt64}
		for range rounds {
			for i, eval := range sides {
				n := 20_000
				if i == 1 {
					n /= 10
				}
				least[i] = min(least[i], perCall(b, eval, c.expr, n))
			}
		}
		total[0] += least[0]
		total[1] += least[1]
		ratio := float64(least[1]) / float64(least[0])
		ratios = append(ratios, ratio)
		fmt.Printf("%6d ns %7d ns  %5.1f  %s\n", least[0], least[1], ratio, c.expr)
	}
	slices.Sort(ratios)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(total[0])/float64(len(cases)), "ns-ours")
	b.ReportMetric(float64(total[1])/float64(len(cases)), "ns-act")
	b.ReportMetric(float64(total[1])/float64(total[0]), "x-of-sums")
	b.ReportMetric(ratios[len(ratios)/2], "x-median")
	b.ReportMetric(ratios[0], "x-least")
}

func perCall(b *testing.B, eval evaluator, expr string, n int) time.Duration {
	runtime.GC() // of what the other side has left
	start := processorTime(b)
	for range n {
		if _, err := eval(expr, false); err != nil {
			b.Fatal(err)
		}
	}
	return (processorTime(b) - start) / time.Duration(n)
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
