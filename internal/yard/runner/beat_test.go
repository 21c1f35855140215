package runner

import (
	"testing"
	"time"
)

func TestBeatEvery(t *testing.T) {
	t.Parallel()
	for ttl, want := range map[time.Duration]time.Duration{
		300 * time.Millisecond: 100 * time.Millisecond,
		3 * time.Second:        time.Second,
		30 * time.Second:       maxBeat,
		time.Hour:              maxBeat,
	} {
		if got := beatEvery(ttl); got != want {
			t.Errorf("a lease of %s beats every %s, want %s", ttl, got, want)
		}
	}
}
