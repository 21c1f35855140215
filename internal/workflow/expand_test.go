package workflow

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// expandJob compiles a workflow with one job "a" and expands it.
func expandJob(t *testing.T, body string, contexts map[string]json.RawMessage, status Status) (Expansion, error) {
	t.Helper()
	src := "on: push\njobs:\n  a:\n" + body
	if !strings.Contains(body, "runs-on") {
		src += "    runs-on: x\n"
	}
	p, diags := compileText(t, src+"    steps: [{ run: echo }]\n", Event{Name: "push"}, nil)
	if p == nil {
		t.Fatal(diags)
	}
	s, err := NewScope(contexts)
	if err != nil {
		t.Fatal(err)
	}
	s.SetStatus(status)
	return Expand(p, &p.Jobs[0], s)
}

func cells(x Expansion) string {
	var out []string
	for _, c := range x.Cells {
		out = append(out, c.Name+" "+string(c.Matrix))
	}
	return strings.Join(out, "\n")
}

var succeeded = Status{Success: true}

func TestMatrix(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, want string }{
		"none":  {"", "a null"},
		"named": {"    name: The job\n    strategy: { matrix: { v: [1, 2] } }\n", "The job (1) {\"v\":1}\nThe job (2) {\"v\":2}"},
		"named by expression": {"    name: J ${{ matrix.v }}\n    strategy: { matrix: { v: [1, 2] } }\n",
			"J 1 {\"v\":1}\nJ 2 {\"v\":2}"},
		"first varies slowest": {"    strategy: { matrix: { v: [10, 12], os: [b, a] } }\n",
			"a (10, b) {\"v\":10,\"os\":\"b\"}\na (10, a) {\"v\":10,\"os\":\"a\"}\na (12, b) {\"v\":12,\"os\":\"b\"}\na (12, a) {\"v\":12,\"os\":\"a\"}"},
		"numbers and booleans": {"    strategy: { matrix: { v: [3.10, '3.10', true, null, ''] } }\n",
			"a (3.1) {\"v\":3.1}\na (3.10) {\"v\":\"3.10\"}\na (true) {\"v\":true}\na {\"v\":null}\na {\"v\":\"\"}"},
		"objects": {"    strategy: { matrix: { v: [{ x: 1, y: [2, 3] }] } }\n",
			"a (1, 2, 3) {\"v\":{\"x\":1,\"y\":[2,3]}}"},
		"exclude": {"    strategy:\n      matrix:\n        os: [a, b]\n        v: [1, 2]\n        exclude: [{ os: A, v: '1' }, { os: b, v: 2 }]\n",
			"a (a, 2) {\"os\":\"a\",\"v\":2}\na (b, 1) {\"os\":\"b\",\"v\":1}"},
		"exclude in part": {"    strategy:\n      matrix:\n        o: [{ k: 1, l: 2 }, { k: 2 }]\n        exclude: [{ o: { k: 1 } }]\n",
			"a (2) {\"o\":{\"k\":2}}"},
		"include only": {"    strategy:\n      matrix:\n        include: [{ s: 1, t: x }, { s: 2 }]\n",
			"a (1, x) {\"s\":1,\"t\":\"x\"}\na (2) {\"s\":2}"},
		// From GitHub's documentation, "Expanding or adding matrix configurations".
		"include documented": {`    strategy:
      matrix:
        fruit: [apple, pear]
        animal: [cat, dog]
        include:
          - color: green
          - color: pink
            animal: cat
          - fruit: apple
            shape: circle
          - fruit: banana
          - fruit: banana
            animal: cat
`, `a (apple, cat) {"fruit":"apple","animal":"cat","color":"pink","shape":"circle"}
a (apple, dog) {"fruit":"apple","animal":"dog","color":"green","shape":"circle"}
a (pear, cat) {"fruit":"pear","animal":"cat","color":"pink"}
a (pear, dog) {"fruit":"pear","animal":"dog","color":"green"}
a (banana) {"fruit":"banana"}
a (banana, cat) {"fruit":"banana","animal":"cat"}`},
		"from needs": {"    strategy: { matrix: '${{ fromJSON(needs.b.outputs.m) }}' }\n", "a (1) {\"x\":1,\"e\":true}\na (2) {\"x\":2}"},
		"vector from needs": {"    strategy: { matrix: { x: '${{ fromJSON(needs.b.outputs.l) }}', y: [z] } }\n",
			"a (p, z) {\"x\":\"p\",\"y\":\"z\"}\na (q, z) {\"x\":\"q\",\"y\":\"z\"}"},
		"spliced": {"    strategy: { matrix: { x: [o, '${{ fromJSON(needs.b.outputs.l) }}'] } }\n",
			"a (o) {\"x\":\"o\"}\na (p) {\"x\":\"p\"}\na (q) {\"x\":\"q\"}"},
		"long name": {"    strategy: { matrix: { x: [" + strings.Repeat("x", 200) + "] } }\n",
			"a (" + strings.Repeat("x", 94) + "... {\"x\":\"" + strings.Repeat("x", 200) + "\"}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, err := expandJob(t, c.body, map[string]json.RawMessage{
				"needs": []byte(`{"b":{"result":"success","outputs":{"m":"{\"x\":[1,2],\"include\":[{\"x\":1,\"e\":true}]}","l":"[\"p\",\"q\"]"}}}`),
			}, succeeded)
			if got := cells(x); err != nil || got != c.want {
				t.Errorf("got %v\n%s\nwant\n%s", err, got, c.want)
			}
		})
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	x, err := expandJob(t, `    runs-on: [self-hosted, '${{ matrix.os }}']
    timeout-minutes: ${{ matrix.os == 'a' && 0.5 || 7 }}
    continue-on-error: ${{ matrix.os == 'b' }}
    concurrency: { group: 'g-${{ strategy.job-index }}', cancel-in-progress: true }
    name: ${{ matrix.os }} ${{ strategy.job-index }}/${{ strategy.job-total }} ${{ strategy.max-parallel }} ${{ strategy.fail-fast }}
    strategy:
      fail-fast: ${{ github.ref == 'x' }}
      max-parallel: 1
      matrix: { os: [a, b] }
`, map[string]json.RawMessage{"github": []byte(`{"ref":"refs/heads/main"}`)}, succeeded)
	if err != nil {
		t.Fatal(err)
	}
	if !x.Run || x.FailFast || x.MaxParallel != 1 || len(x.Cells) != 2 {
		t.Fatalf("%+v", x)
	}
	a, b := x.Cells[0], x.Cells[1]
	if a.Name != "a 0/2 1 false" || a.Timeout != 30*time.Second || a.Tolerated || a.Group != "g-0" || !a.CancelInProgress || fmt.Sprint(a.Labels) != "[self-hosted a]" {
		t.Errorf("a: %+v", a)
	}
	if b.Index != 1 || b.Timeout != 7*time.Minute || !b.Tolerated || b.Group != "g-1" || string(b.Strategy) != `{"fail-fast":false,"job-index":1,"job-total":2,"max-parallel":1}` {
		t.Errorf("b: %+v", b)
	}
	x, err = expandJob(t, "", nil, succeeded)
	if c := x.Cells[0]; err != nil || c.Timeout != 6*time.Hour || c.Group != "" || !x.FailFast || x.MaxParallel != 0 ||
		string(c.Strategy) != `{"fail-fast":true,"job-index":0,"job-total":1,"max-parallel":1}` {
		t.Errorf("defaults: %+v %v", x, err)
	}
}

func TestExpandRunsOn(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"ubuntu-latest":                "[ubuntu-latest]",
		"[a, b]":                       "[a b]",
		"${{ vars.NONE || 'c' }}":      "[c]",
		`${{ fromJSON('["a","b"]') }}`: "[a b]",
		"{ group: g, labels: l }":      "[l]",
		"{ group: g, labels: [l, m] }": "[l m]",
		"['${{ vars.NONE }}']":         "runs-on must be labels",
		"${{ vars.NONE }}":             "runs-on names no runner",
		"{ group: g }":                 "runner groups are not supported",
		`${{ fromJSON('[["a"]]') }}`:   "must be labels, not an array",
	} {
		x, err := expandJob(t, "    runs-on: "+value+"\n", nil, succeeded)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(x.Cells[0].Labels)
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
}

func TestExpandIf(t *testing.T) {
	t.Parallel()
	failed, cancelled := Status{Failure: true}, Status{Cancelled: true}
	for _, c := range []struct {
		cond   string
		status Status
		want   bool
	}{
		{"", succeeded, true}, {"", failed, false}, {"", cancelled, false},
		{"true", succeeded, true}, {"true", failed, false}, {"${{ true }}", failed, false},
		{"false", succeeded, false}, {"always()", failed, true}, {"always()", cancelled, true},
		{"ALWAYS() && github.ref == 'x'", failed, false},
		{"failure()", failed, true}, {"failure()", succeeded, false}, {"failure()", cancelled, false},
		{"cancelled()", cancelled, true}, {"'!cancelled()'", failed, true}, {"${{ !cancelled() }}", failed, true},
		{"success() || true", failed, true}, {"${{ github.ref }} == 'y'", succeeded, true},
		{"${{ false }} x", failed, false}, {"needs.b.result == 'success'", succeeded, true},
		{"needs.b.outputs.x", succeeded, false}, {"0", succeeded, false}, {"''", succeeded, true},
	} {
		body := ""
		if c.cond != "" {
			body = "    if: " + c.cond + "\n"
		}
		x, err := expandJob(t, body, map[string]json.RawMessage{"needs": []byte(`{"b":{"result":"success","outputs":{}}}`)}, c.status)
		if err != nil || x.Run != c.want || len(x.Cells) != 1 {
			t.Errorf("if %q with %+v: %+v %v, want %v", c.cond, c.status, x, err, c.want)
		}
	}
}

func TestExpandErrors(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"    if: fromJSON('x')\n":                                                  "line 4, column 9: fromJSON was given",
		"    timeout-minutes: ${{ '5' }}\n":                                        "a number was expected, not a string",
		"    timeout-minutes: ${{ 0 }}\n":                                          "greater than 0",
		"    continue-on-error: ${{ 'true' }}\n":                                   "true or false was expected",
		"    strategy: { matrix: '${{ github.ref }}' }\n":                          "not null",
		"    strategy: { matrix: { x: '${{ fromJSON(github.x || ''[]'') }}' } }\n": "matrix.x has no values",
		"    strategy: { matrix: { x: '${{ github.ref }}' } }\n":                   "matrix.x must be a sequence",
	} {
		_, err := expandJob(t, body, nil, succeeded)
		if err == nil || !strings.Contains(err.Error(), want) || sallyport.ErrorCode(err) != sallyport.CodeInvalid {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}
