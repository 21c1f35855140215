package sallyport_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// TestLeasesDoNotPrint logs a lease in every way that comes to mind.
func TestLeasesDoNotPrint(t *testing.T) {
	t.Parallel()
	l := sallyport.Lease{
		Ref: sallyport.LeaseRef{Job: "j1", Token: "geheim-token"}, Secrets: map[string]string{"A": "geheim-held"},
		Lent: []sallyport.LentSecret{{Secret: "B", Value: "geheim-lent", Placeholder: "lent-1"}},
	}
	var out bytes.Buffer
	for _, of := range []any{l, &l, []sallyport.Lease{l}, struct{ L *sallyport.Lease }{&l}, l.Lent, l.Lent[0], &l.Lent[0]} {
		fmt.Fprintf(&out, "%v %+v %#v %s %q %x %d\n", of, of, of, of, of, of, of)
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			if _, is := of.(slog.LogValuer); is { // what holds one is written as it is sent
				slog.New(h).Info("leased", "it", of)
			}
		}
	}
	if text := out.String(); strings.Contains(text, "geheim") || !strings.Contains(text, "lease of job j1") || !strings.Contains(text, "secret B") {
		t.Errorf("printed %s", text)
	}
	raw, err := json.Marshal(l) // how it reaches the runner
	var back sallyport.Lease
	if err != nil || json.Unmarshal(raw, &back) != nil || back.Lent[0].Value != "geheim-lent" {
		t.Errorf("sent as %s, %v", raw, err)
	}
}
