package egress

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestGuide reads the example of the guide as the engine would.
func TestGuide(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/guide/credentials.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(string(b))
	if m == nil {
		t.Fatal("the guide has no example")
	}
	src := strings.ReplaceAll("\n"+m[1], "\n   ", "\n")[1:] // it is indented as part of a list
	if rules, diags := Parse([]byte(src)); len(diags) > 0 || len(rules.Credentials) != 2 {
		t.Errorf("%v\n%s", diags, src)
	}
}
