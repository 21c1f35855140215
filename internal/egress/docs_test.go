package egress

import (
	"os"
	"regexp"
	"testing"
)

// The rules that the guide shows are valid.
func TestGuide(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"egress.md", "packages.md"} {
		text, err := os.ReadFile("../../docs/guide/" + page)
		if err != nil {
			t.Fatal(err)
		}
		shown := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1)
		if len(shown) != 1 {
			t.Errorf("%s shows %d files, want 1", page, len(shown))
		}
		for _, m := range shown {
			if _, diags := Parse(m[1]); len(diags) > 0 {
				t.Errorf("%s: %v", page, diags)
			}
		}
	}
}
