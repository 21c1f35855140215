package sqlstore

import "sync"

// watchers are those who wait for topics. A signal costs what the topic's own
// watchers cost, however many others there are.
type watchers struct {
	mu    sync.Mutex
	topic map[string]map[chan struct{}]struct{}
}

func newWatchers() *watchers {
	return &watchers{topic: make(map[string]map[chan struct{}]struct{})}
}

func (w *watchers) watch(topic string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1) // one signal that was not yet taken stands for all
	w.mu.Lock()
	defer w.mu.Unlock()
	set := w.topic[topic]
	if set == nil {
		set = make(map[chan struct{}]struct{}, 1)
		w.topic[topic] = set
	}
	set[c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(set, c)
		// A later watcher may have made a new set.
		if cur, ok := w.topic[topic]; ok && len(cur) == 0 {
			delete(w.topic, topic)
		}
	}
}

func (w *watchers) signal(topic string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	signalSet(w.topic[topic])
}

func (w *watchers) signalAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, set := range w.topic {
		signalSet(set)
	}
}

func signalSet(set map[chan struct{}]struct{}) {
	for c := range set {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
