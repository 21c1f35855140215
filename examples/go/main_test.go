package main

import (
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	for text, want := range map[string]int{"": 0, "one": 1, "one  two\nthree": 3} {
		if got, err := count(strings.NewReader(text)); err != nil || got != want {
			t.Errorf("count(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
}
