package environment

import (
	"os"
	"regexp"
	"testing"
)

// The declarations of the guide and of the sample are valid.
func TestGuide(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/guide/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	sample, err := os.ReadFile("../../examples/hello/.sallyport/deploy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sources := [][]byte{sample}
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1) {
		sources = append(sources, m[1])
	}
	if len(sources) != 2 {
		t.Fatalf("the guide has %d declarations, want 1", len(sources)-1)
	}
	for _, src := range sources {
		if specs, diags := Parse(src); len(specs) != 1 || len(diags) > 0 {
			t.Errorf("got %d environments and %v\n%s", len(specs), diags, src)
		}
	}
}
