package door

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestRequestsOfAllJobsAreBounded refuses what is beyond the requests that all doors of a runner
// may have under way, whichever job has them; what ends makes room.
func TestRequestsOfAllJobsAreBounded(t *testing.T) {
	t.Parallel()
	shared := &Dialer{}
	ask := func(d *Door) int {
		f := &flow{door: d, host: "good.test", port: 80, handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = "good.test"
		w := httptest.NewRecorder()
		d.proxy.serve(w, r.WithContext(context.WithValue(t.Context(), flowKey{}, f)))
		return w.Code
	}
	one, other := openFor(t, Config{Dialer: shared}), openFor(t, Config{Dialer: shared})
	apart := openFor(t, Config{})
	shared.requests.Add(maxRequests) // of other jobs
	if a, b := ask(one), ask(other); a != http.StatusTooManyRequests || b != a {
		t.Errorf("when all have as many as may be: got %d and %d", a, b)
	}
	if got := ask(apart); got != http.StatusOK {
		t.Errorf("a door that shares nothing: got %d", got)
	}
	shared.requests.Add(-1)
	for range 2 {
		if a, b := ask(one), ask(other); a != http.StatusOK || b != a {
			t.Errorf("when one had ended: got %d and %d", a, b)
		}
	}
}
