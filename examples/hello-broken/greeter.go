package main

import (
	"errors"
	"strings"
	"time"
)

const (
	workers = 16 // greetings that may be made at a time
	patient = 100 * time.Millisecond
)

// greeter makes greetings with a bounded number of workers.
type greeter struct{ slots chan struct{} }

func newGreeter() *greeter { return &greeter{slots: make(chan struct{}, workers)} }

// greet refuses names with markup since 1.1.0. The change forgot to free the
// worker of a greeting that succeeds: after 16 of them none is left, which no
// test of a few requests notices.
func (g *greeter) greet(name string) (string, error) {
	select {
	case g.slots <- struct{}{}:
	case <-time.After(patient):
		return "", errors.New("every worker is busy")
	}
	if strings.ContainsAny(name, "<>") {
		<-g.slots
		return "", errors.New("a name has no markup")
	}
	if name == "" {
		name = "world"
	}
	return "Hello, " + name + "!", nil
}
