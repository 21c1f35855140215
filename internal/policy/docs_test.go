package policy

import (
	"os"
	"regexp"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// The gates of the guide compile and decide as it says.
func TestGuide(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/guide/gates.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```rego\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) != 1 {
		t.Fatalf("the guide has %d gates, want 1", len(blocks))
	}
	g, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for now, want := range map[string]sallyport.Decision{
		"2026-01-02T03:04:05Z": sallyport.Allow, // a Friday
		"2026-01-03T03:04:05Z": sallyport.Deny,
	} {
		doc := evidence()
		doc.Now = now
		input, _, err := doc.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := g.Judge(t.Context(), blocks[0][1], input)
		if err != nil || got.Decision != want || len(got.Reasons) != 1 {
			t.Errorf("at %s: got %+v, %v; want %s with one reason", now, got, err, want)
		}
	}
}
