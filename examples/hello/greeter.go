package main

import (
	"errors"
	"time"
)

const (
	workers = 16 // greetings that may be made at a time
	patient = 100 * time.Millisecond
)

// greeter makes greetings with a bounded number of workers.
type greeter struct{ slots chan struct{} }

func newGreeter() *greeter { return &greeter{slots: make(chan struct{}, workers)} }

func (g *greeter) greet(name string) (string, error) {
	select {
	case g.slots <- struct{}{}:
	case <-time.After(patient):
		return "", errors.New("every worker is busy")
	}
	defer func() { <-g.slots }()
	if name == "" {
		name = "world"
	}
	return "Hello, " + name + "!", nil
}
