package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// waiters are the runners that wait for work, first come first served. Work
// that arrives wakes one runner of each label set, not all: with a thousand
// runners waiting, a broadcast would cost a thousand claims per job.
type waiters struct {
	mu     sync.Mutex
	byKey  map[string][]*waiter
	topics map[string][]chan struct{} // who follows a log
}

type waiter struct {
	key   string
	woken chan struct{}
}

func newWaiters() *waiters {
	return &waiters{byKey: make(map[string][]*waiter), topics: make(map[string][]chan struct{})}
}

func labelKey(labels []string) string {
	l := slices.Clone(labels)
	slices.Sort(l)
	return strings.Join(l, "\x00")
}

// enter adds a waiter before it looks for work, so that none is missed between.
func (q *waiters) enter(labels []string) *waiter {
	w := &waiter{key: labelKey(labels), woken: make(chan struct{}, 1)}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.byKey[w.key] = append(q.byKey[w.key], w)
	return w
}

// leave removes a waiter; a wake-up that it did not use goes to the next.
func (q *waiters) leave(w *waiter) {
	q.mu.Lock()
	list := q.byKey[w.key]
	if i := slices.Index(list, w); i >= 0 {
		list = slices.Delete(list, i, i+1)
		if len(list) == 0 {
			delete(q.byKey, w.key)
		} else {
			q.byKey[w.key] = list
		}
		q.mu.Unlock()
		return
	}
	q.mu.Unlock() // it was woken
	select {
	case <-w.woken:
		q.wakeKey(w.key)
	default:
	}
}

func (q *waiters) wakeOne(labels []string) { q.wakeKey(labelKey(labels)) }

func (q *waiters) wakeKey(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wakeLocked(key)
}

func (q *waiters) wakeLocked(key string) {
	list := q.byKey[key]
	if len(list) == 0 {
		return
	}
	w := list[0]
	if len(list) == 1 {
		delete(q.byKey, key)
	} else {
		q.byKey[key] = list[1:]
	}
	w.woken <- struct{}{} // has room: a waiter is woken once
}

// wakeEach wakes one waiter of each label set.
func (q *waiters) wakeEach() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for key := range q.byKey {
		q.wakeLocked(key)
	}
}

// wakeRunners turns the store's signals into wake-ups until ctx ends.
func (e *Engine) wakeRunners(ctx context.Context) {
	signal, stop := e.store.Watch(topicWork(sallyport.QueueRunner))
	defer stop()
	sweep := time.NewTicker(idleSweep) // for leases that run out and signals that were lost
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-signal:
		case <-sweep.C:
		}
		e.queue.wakeEach()
	}
}

// follow returns a channel that gets a value when the topic is touched.
func (q *waiters) follow(topic string) (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.topics[topic] = append(q.topics[topic], ch)
	return ch, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		list := slices.DeleteFunc(q.topics[topic], func(c chan struct{}) bool { return c == ch })
		if len(list) == 0 {
			delete(q.topics, topic)
		} else {
			q.topics[topic] = list
		}
	}
}

func (q *waiters) touch(topic string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, ch := range q.topics[topic] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// presence remembers the runners that asked for work lately. It is not state:
// after a restart runners make themselves known again by asking.
type presence struct {
	mu      sync.Mutex
	runners map[sallyport.RunnerID]sallyport.RunnerStatus
}

const (
	presenceTime = 3 * time.Minute // a runner asks at least every longPoll
	maxPresence  = 10_000
)

func newPresence() *presence {
	return &presence{runners: make(map[sallyport.RunnerID]sallyport.RunnerStatus)}
}

func (p *presence) saw(ask sallyport.LeaseRequest, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.runners[ask.Runner]; !known && len(p.runners) >= maxPresence {
		return
	}
	p.runners[ask.Runner] = sallyport.RunnerStatus{ID: ask.Runner, Name: clip(ask.Name, 200), Isolation: ask.Isolation, SeenAt: now}
}

func (p *presence) list(now time.Time) []sallyport.RunnerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []sallyport.RunnerStatus
	for id, r := range p.runners {
		if now.Sub(r.SeenAt) > presenceTime {
			delete(p.runners, id)
			continue
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b sallyport.RunnerStatus) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}
