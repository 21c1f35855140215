package runner

import (
	"fmt"
	"regexp"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// harmless is text that means the same inside and outside of quotes in any
// shell or language: a version, a branch's name, a number.
var harmless = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._/-]*)?$`)

// maxPassed bounds a value that is passed by environment: Linux takes no
// variable of more than 128 KiB.
const maxPassed = 120 << 10

// scriptText returns the text of a run step with its expressions replaced. A
// value that someone untrusted wrote and that has special characters is not pasted: it is
// passed by a variable of the step's environment, and the script reads that. Where that
// would not keep the script's meaning, or is not known to be safe, the step is refused.
func (s *step) scriptText(sh shell) (string, error) {
	pieces, err := s.frame.scope.Pieces(s.plan.Run)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	var untrusted []workflow.Piece
	for _, p := range pieces {
		s.tainted = s.tainted || p.Tainted
		switch {
		case p.Tainted && !harmless.MatchString(p.Text):
			untrusted = append(untrusted, p)
			text.WriteByte(hole)
		case p.Expr == "":
			text.WriteString(strings.ReplaceAll(p.Text, "\r\n", "\n"))
		default:
			text.WriteString(p.Text)
		}
	}
	if len(untrusted) == 0 {
		return text.String(), nil
	}
	if strings.Count(text.String(), string(hole)) != len(untrusted) {
		return "", refusePaste(untrusted[0], "the script holds a zero byte")
	}
	if sh.dialect == "" {
		return "", refusePaste(untrusted[0], "only scripts for bash and sh are looked through")
	}
	fills, bad, why := scan(text.String(), sh.dialect == "sh")
	if bad >= 0 {
		return "", refusePaste(untrusted[bad], why)
	}
	return s.fill(text.String(), untrusted, fills)
}

// fill puts a reference to a variable in the place of each hole.
func (s *step) fill(text string, untrusted []workflow.Piece, fills []filling) (string, error) {
	var out strings.Builder
	names := map[string]string{} // by value
	for i, p := range untrusted {
		switch {
		case strings.IndexByte(p.Text, 0) >= 0:
			return "", refusePaste(p, "it holds a zero byte")
		case len(p.Text) > maxPassed:
			return "", refusePaste(p, fmt.Sprintf("it has more than %d KiB", maxPassed>>10))
		case fills[i] == fillBare && strings.Contains(text, "IFS"):
			return "", refusePaste(p, "it would be split into words, and the script changes IFS")
		case fills[i] == fillBare && hasOptions(p.Text):
			return "", refusePaste(p, "it is split into several words there, and one of them is an option")
		}
		name, known := names[p.Text]
		for n := 1; !known; n++ {
			name = fmt.Sprintf("SALLYPORT_EXPR_%d", n)
			if _, taken := s.env.get(name); !taken {
				break
			}
		}
		names[p.Text] = name
		s.env.set(workflow.Var{Name: name, Value: p.Text, Tainted: true})
		before, after, _ := strings.Cut(text, string(hole))
		out.WriteString(before)
		out.WriteString(fills[i].text(name))
		text = after
	}
	out.WriteString(text)
	return out.String(), nil
}

// hasOptions reports whether a value that a shell splits is several words, of
// which one is an option of the command.
func hasOptions(value string) bool {
	words := strings.Fields(value)
	for _, w := range words {
		if len(words) > 1 && strings.HasPrefix(w, "-") {
			return true
		}
	}
	return false
}

func refusePaste(p workflow.Piece, why string) error {
	expr := strings.TrimSpace(p.Expr)
	return sallyport.Errorf(sallyport.CodeInvalid, "refused: ${{ %.200s }} is an untrusted value with special characters, and pasting it into the script could run it (%s)", expr, why).
		WithHint("pass it by environment: add `env: { VALUE: ${{ %.200s }} }` to the step and write \"$VALUE\" in the script instead of ${{ %.200s }}", expr, expr)
}
