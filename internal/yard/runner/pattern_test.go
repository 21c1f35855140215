package runner

import (
	"strings"
	"testing"
)

// A pattern of a few bytes may stand for very many instructions.
func TestPatternWeight(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat("a{0,1000}", 4), "(a{0,30}){0,30}(b{0,30}){0,30}(c{0,30}){0,30}"} {
		if _, err := compilePattern(text); err == nil {
			t.Errorf("%.40q… was taken", text)
		}
	}
	for _, text := range []string{`^(.+):(\d+):(\d+): (error|warning|note): (.*)$`, `^\s*(?:ERROR|FATAL)\s{1,20}(\S{1,200})$`} {
		if _, err := compilePattern(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}
