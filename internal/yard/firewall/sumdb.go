package firewall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"crypto/rand"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
)

const (
	maxSumAnswer = 1 << 20 // a tile has 8 KiB, a record some hundred bytes
	// maxLookups is after how many a client is left for a new one: it holds all that it has seen.
	maxLookups = 20_000
)

// sums asks a checksum database, through the module proxies that pass it on, and verifies
// what it says: signature, inclusion, and that its log only grows.
type sums struct {
	f   *Firewall
	db  SumDB
	dir string

	mu      sync.Mutex
	clients map[*Upstream]*sumClient
}

type sumClient struct {
	client *sumdb.Client
	ops    *sumOps
	uses   int // guarded by sums.mu
}

// newSums returns nil when no database is known.
func newSums(f *Firewall, dir string) *sums {
	if f.upstreams.Sum.Name == "" || f.upstreams.Sum.Key == "" {
		return nil
	}
	return &sums{f: f, db: f.upstreams.Sum, dir: dir, clients: map[*Upstream]*sumClient{}}
}

// of returns the checksums of a module's archive, nil when no database is to be asked.
func (s *sums) of(ctx context.Context, up *Upstream, m module.Version) ([]string, error) {
	if s == nil || module.MatchPrefixPatterns(s.f.upstreams.GoNoSumDB, m.Path) {
		return nil, nil
	}
	c, err := s.through(ctx, up)
	if c == nil || err != nil {
		return nil, err
	}
	lines, err := c.client.Lookup(m.Path, m.Version)
	var known *upstreamError
	switch {
	case errors.Is(err, sumdb.ErrSecurity) || c.ops.broken():
		return nil, &upstreamError{http.StatusForbidden, fmt.Sprintf("the checksum database %s contradicts itself; nothing is taken that depends on it", s.db.Name)}
	case errors.As(err, &known):
		if absent(err) {
			return nil, &upstreamError{http.StatusForbidden, fmt.Sprintf("the checksum database %s does not know %s %s; for modules of your own, name them in GONOSUMDB or GOPRIVATE of the runner's host", s.db.Name, m.Path, m.Version)}
		}
		return nil, err
	case err != nil:
		return nil, &upstreamError{http.StatusBadGateway, fmt.Sprintf("what the checksum database %s says of %s %s cannot be verified", s.db.Name, m.Path, m.Version)}
	}
	var out []string
	for _, l := range lines {
		if sum, ok := strings.CutPrefix(l, m.Path+" "+m.Version+" "); ok {
			out = append(out, sum)
		}
	}
	if out == nil {
		out = []string{"none"} // that fits nothing
	}
	return out, nil
}

// through returns the client by way of a proxy, nil when the proxy does not pass the database on: then
// the go command asks elsewhere, and so does nobody here.
func (s *sums) through(ctx context.Context, up *Upstream) (*sumClient, error) {
	u, err := up.at("sumdb/" + s.db.Name + "/supported")
	if err != nil {
		return nil, err
	}
	c, _, err := s.f.get(ctx, ask{up: up, url: u, age: fixedAge, limit: maxSumAnswer})
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.clients[up]; have != nil && have.uses < maxLookups {
		have.uses++
		return have, nil
	}
	ops := &sumOps{s: s, up: up}
	made := &sumClient{client: sumdb.NewClient(ops), ops: ops}
	s.clients[up] = made
	return made, nil
}

// sumOps lets a sumdb.Client reach a database through one proxy.
type sumOps struct {
	s  *sums
	up *Upstream

	mu  sync.Mutex
	bad bool
}

func (o *sumOps) broken() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bad
}

// ReadRemote asks the database. What is fixed once it is said stays in the cache; the client verifies it each time.
func (o *sumOps) ReadRemote(path string) ([]byte, error) {
	u, err := o.up.at("sumdb/" + o.s.db.Name + path)
	if err != nil {
		return nil, err
	}
	raw, _, err := o.s.f.bytes(context.Background(), ask{up: o.up, url: u, age: fixedAge, limit: maxSumAnswer})
	return raw, err
}

// ReadConfig returns the key or the newest tree that was seen.
func (o *sumOps) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(o.s.db.Key), nil
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	raw, err := os.ReadFile(o.s.config(file))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}

// WriteConfig keeps the newest tree.
func (o *sumOps) WriteConfig(file string, old, now []byte) error {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	have, err := os.ReadFile(o.s.config(file))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if !bytes.Equal(have, old) {
		return sumdb.ErrWriteConflict
	}
	if err := os.MkdirAll(o.s.dir, 0o700); err != nil {
		return err
	}
	temp := filepath.Join(o.s.dir, "."+rand.Text())
	if err := os.WriteFile(temp, now, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, o.s.config(file))
}

func (s *sums) config(file string) string {
	return filepath.Join(s.dir, strings.ReplaceAll(file, "/", "_"))
}

// ReadCache and WriteCache do nothing: ReadRemote's answers are cached already.
func (o *sumOps) ReadCache(string) ([]byte, error) { return nil, os.ErrNotExist }
func (o *sumOps) WriteCache(string, []byte)        {}

// Log takes the client's words, which say nothing that its errors do not.
func (o *sumOps) Log(msg string) { o.s.f.log.Debug("the checksum database's client spoke", "msg", msg) }

// SecurityError hears that the database was caught.
func (o *sumOps) SecurityError(msg string) {
	o.mu.Lock()
	o.bad = true
	o.mu.Unlock()
	o.s.f.log.Error("a checksum database contradicts itself", "database", o.s.db.Name, "msg", msg)
}

// sumdb passes a checksum database on. Its answers about modules are verified on the way, when its key is known.
func (a answer) sumdb(rest string) error {
	name, path, _ := strings.Cut(rest, "/")
	if name == "" || strings.ContainsAny(rest, "%?") && !strings.HasPrefix(path, "lookup/") {
		return &upstreamError{http.StatusNotFound, "this is no path of a checksum database"}
	}
	age := fixedAge
	switch kind, of, _ := strings.Cut(path, "/"); {
	case path == "supported":
	case path == "latest":
		age = pageAge
	case kind == "tile":
	case kind == "lookup":
		if err := a.checkLookup(name, of); err != nil {
			return err
		}
	default:
		return &upstreamError{http.StatusNotFound, "this is no path of a checksum database"}
	}
	u, err := a.up.at("sumdb/" + rest)
	if err != nil {
		return err
	}
	return a.pass(ask{up: a.up, url: u, age: age, limit: maxSumAnswer})
}

func (a answer) checkLookup(name, of string) error {
	s := a.j.f.sums
	if s == nil || name != s.db.Name {
		return nil
	}
	escaped, number, ok := strings.Cut(of, "@")
	path, err := module.UnescapePath(escaped)
	if !ok || err != nil {
		return &upstreamError{http.StatusNotFound, "this is no path of a checksum database"}
	}
	v, err := module.UnescapeVersion(number)
	if err != nil {
		return &upstreamError{http.StatusNotFound, "this is no path of a checksum database"}
	}
	_, err = s.of(a.r.Context(), a.up, module.Version{Path: path, Version: v})
	return err
}
