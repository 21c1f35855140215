package egress

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The rules that the guide shows are valid; other files that it shows begin with other keys.
func TestGuide(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"egress.md", "packages.md", "credentials.md"} {
		text, err := os.ReadFile("../../docs/guide/" + page)
		if err != nil {
			t.Fatal(err)
		}
		shown := 0
		for _, m := range regexp.MustCompile("(?sm)^( *)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			src := strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")[1:] // it may be part of a list
			if !strings.HasPrefix(src, "network:") {
				continue
			}
			shown++
			if _, diags := Parse([]byte(src)); len(diags) > 0 {
				t.Errorf("%s: %v", page, diags)
			}
		}
		if shown != 1 {
			t.Errorf("%s shows %d files, want 1", page, shown)
		}
	}
}
