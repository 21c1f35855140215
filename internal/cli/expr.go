package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
	"github.com/sallyport-ci/sallyport/internal/yard/runner"
)

// maxExprLine bounds a line of expr --batch, and a file of contexts: a payload
// of a forge has at most 25 MB there, and nearly always less than 1 MB.
const maxExprLine = 8 << 20

type exprCmd struct {
	Context string  `help:"JSON object of contexts: github, env, matrix, needs, inputs, …" placeholder:"FILE.json"`
	Batch   bool    `help:"Read lines {\"id\",\"expr\",\"context\"} from stdin and answer each with {\"id\",\"kind\",\"value\"} or {\"id\",\"error\"}."`
	Expr    *string `arg:"" optional:"" help:"The expression, with or without $${{ }}."`
}

// exprArgs puts what is no flag of expr behind --, as an expression may begin
// with a minus.
func exprArgs(args []string) []string {
	if len(args) == 0 || args[0] != "expr" {
		return args
	}
	flags, rest := []string{"expr"}, []string{"--"}
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--":
			return append(append(flags, rest...), args[i+1:]...)
		case a == "--context" && i+1 < len(args):
			flags = append(flags, a, args[i+1])
			i++
		case a == "-h" || strings.HasPrefix(a, "--"):
			flags = append(flags, a)
		default:
			rest = append(rest, a)
		}
	}
	return append(flags, rest...)
}

func (c exprCmd) Run(e *env) error {
	if c.Batch {
		if c.Expr != nil || c.Context != "" {
			return sallyport.Errorf(sallyport.CodeInvalid, "--batch reads expressions and contexts from stdin, and takes none here")
		}
		return exprBatch(os.Stdin, e.stdout)
	}
	if c.Expr == nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "there is no expression").WithHint("sallyport expr \"github.ref == 'refs/heads/main'\" --context FILE.json")
	}
	var contexts []byte
	if c.Context != "" {
		var err error
		if contexts, err = readContexts(c.Context); err != nil {
			return err
		}
	}
	scope, err := exprScope(contexts)
	if err != nil {
		return err
	}
	v, err := evaluate(*c.Expr, scope)
	if err != nil {
		return err
	}
	_, err = e.stdout.Write(append(appendValue([]byte("{"), v), "}\n"...))
	return err
}

// appendValue appends the members kind and value. Numbers are exact; NaN,
// Infinity and -Infinity, which JSON has not, are texts, spelled as toJSON and
// format spell them.
func appendValue(buf []byte, v workflow.Value) []byte {
	value, _ := v.MarshalJSON() // never fails
	buf = append(append(buf, `"kind":"`...), v.Kind().String()...)
	return append(append(buf, `","value":`...), value...)
}

func readContexts(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "read contexts: %v", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxExprLine+1))
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "read contexts: %v", err)
	}
	if len(raw) > maxExprLine {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "read contexts: %s has more than %d MiB", name, maxExprLine>>20)
	}
	return raw, nil
}

// exprScope is a scope of contexts given as one JSON object; nothing, or null,
// is none. The status functions answer by the contexts, hashFiles looks into
// the current directory.
func exprScope(raw []byte) (*workflow.Scope, error) {
	var contexts map[string]json.RawMessage
	if len(raw) > 0 {
		err := json.Unmarshal(raw, &contexts)
		var kind *json.UnmarshalTypeError
		switch {
		case errors.As(err, &kind):
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the contexts are a JSON %s, not an object of contexts by name", kind.Value)
		case err != nil:
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the contexts are not JSON: %v", err)
		}
	}
	scope, err := workflow.NewScope(contexts)
	if err != nil {
		return nil, err
	}
	scope.SetStatus(scope.StatusByContexts())
	scope.SetHashFiles(func(patterns []string) (string, error) { return runner.HashFiles(".", patterns) })
	return scope, nil
}

// evaluate evaluates an expression with or without ${{ }}; with other text
// around, the result is text. Nothing at all is null.
func evaluate(expr string, scope *workflow.Scope) (v workflow.Value, err error) {
	if strings.TrimSpace(expr) != "" {
		v, err = workflow.Eval(expr, scope)
		if err != nil && strings.Contains(expr, "${{") { // as an expression it may stand within a string alone
			v, err = scope.Value(sallyport.Template{Text: expr})
		}
	}
	return v, err
}

// exprRequest is one line of --batch.
type exprRequest struct {
	ID      json.RawMessage `json:"id"`
	Expr    *string         `json:"expr"`
	Context json.RawMessage `json:"context"`
}

// exprBatch answers each line of in, blank ones aside, with one line. Only
// reading and writing can end it early.
func exprBatch(in io.Reader, out io.Writer) error {
	r, w := bufio.NewReaderSize(in, 64<<10), bufio.NewWriter(out)
	var b exprBatcher
	for {
		line, tooLong, err := readLine(r, maxExprLine)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read expressions: %w", err)
		}
		switch {
		case tooLong:
			b.fail(w, nil, fmt.Errorf("the line has more than %d MiB", maxExprLine>>20))
		case len(bytes.TrimSpace(line)) > 0:
			b.answer(w, line)
		}
		if err != nil {
			return w.Flush()
		}
		if r.Buffered() == 0 { // someone may wait for the answer
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
}

// readLine reads one line. Of one that is too long it consumes all and returns none.
func readLine(r *bufio.Reader, most int) (line []byte, tooLong bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > most {
			tooLong, line = true, nil
		}
		if !tooLong {
			if line == nil && !errors.Is(err, bufio.ErrBufferFull) {
				return part, false, err // valid until the next read, which is enough
			}
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, tooLong, err
		}
	}
}

// exprBatcher keeps the scope of the line before: lines tend to repeat it.
type exprBatcher struct {
	contexts []byte
	scope    *workflow.Scope
	out      []byte
}

func (b *exprBatcher) answer(w *bufio.Writer, line []byte) {
	var q exprRequest
	v, err := b.evaluate(line, &q)
	if err != nil {
		b.fail(w, q.ID, err)
		return
	}
	b.out = append(b.begin(q.ID), ',')
	_, _ = w.Write(append(appendValue(b.out, v), "}\n"...)) // flushing tells of errors
}

func (b *exprBatcher) evaluate(line []byte, q *exprRequest) (workflow.Value, error) {
	err := json.Unmarshal(line, q)
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind) && kind.Field != "":
		return workflow.Null, fmt.Errorf("the line's %q is a JSON %s", kind.Field, kind.Value)
	case errors.As(err, &kind):
		return workflow.Null, fmt.Errorf("the line is a JSON %s, not an object with expr and context", kind.Value)
	case err != nil:
		return workflow.Null, fmt.Errorf("the line is not JSON: %w", err)
	case q.Expr == nil:
		return workflow.Null, errors.New("the line has no expr")
	}
	if b.scope == nil || !bytes.Equal(b.contexts, q.Context) {
		scope, err := exprScope(q.Context)
		if err != nil {
			return workflow.Null, err
		}
		b.scope, b.contexts = scope, q.Context
	}
	return evaluate(*q.Expr, b.scope)
}

func (b *exprBatcher) fail(w *bufio.Writer, id json.RawMessage, err error) {
	text, _ := workflow.String(err.Error()).MarshalJSON() // never fails
	b.out = append(append(append(b.begin(id), `,"error":`...), text...), "}\n"...)
	_, _ = w.Write(b.out)
}

// begin begins an answer with the id of its line.
func (b *exprBatcher) begin(id json.RawMessage) []byte {
	if len(id) == 0 {
		id = json.RawMessage("null")
	}
	return append(append(b.out[:0], `{"id":`...), id...)
}
