package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

const maxRoutesFile = 16 << 20 // 1,000 routes of 16 backends are below 5 MiB

// saved is the content of routesFile.
type saved struct {
	Version int     `json:"version"`
	Routes  []Route `json:"routes"`
}

// save writes all routes, with changed in place of the one of its key. It
// survives a power cut once it returned nil.
func (p *Proxy) save(changed Route) error {
	s := saved{Version: Protocol}
	for key, r := range p.routes {
		if key != changed.Key {
			s.Routes = append(s.Routes, r.spec)
		}
	}
	s.Routes = append(s.Routes, changed)
	slices.SortFunc(s.Routes, func(a, b Route) int { return strings.Compare(a.Key, b.Key) })
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode routes: %w", err)
	}
	if err := replace(filepath.Join(p.dir, routesFile), b); err != nil {
		p.log.Error("routes not saved", "err", err)
		return sallyport.Errorf(sallyport.CodeUnavailable, "the proxy could not save its routes; nothing was changed").
			WithHint("free disk space; it will be tried again")
	}
	return nil
}

// replace writes b to path atomically and durably.
func replace(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// restore reads the routes and serves them. An address that another program
// took meanwhile does not keep the others from being served.
func (p *Proxy) restore() error {
	f, err := os.Open(filepath.Join(p.dir, routesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open routes: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRoutesFile))
	if err != nil {
		return fmt.Errorf("read routes: %w", err)
	}
	var s saved
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("decode %s: %w", routesFile, err)
	}
	if s.Version != Protocol {
		return fmt.Errorf("%s is of version %d, this binary knows %d", routesFile, s.Version, Protocol)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, spec := range s.Routes {
		if err := spec.check(); err != nil {
			return fmt.Errorf("%s: %w", routesFile, err)
		}
		r := newRoute(p, spec.Key)
		p.routes[spec.Key] = r
		p.adopt(r, spec)
		p.bind(r)
	}
	return nil
}

// bind makes r listen at its kept address, or notes why it cannot.
func (p *Proxy) bind(r *route) {
	l, err := p.listen(r, r.spec.Address)
	if err != nil {
		if msg := err.Error(); r.spec.Problem != msg {
			r.spec.Problem = msg
			p.log.Error("address not served", "route", r.key, "address", r.spec.Address, "err", err)
		}
		return
	}
	r.spec.Problem = ""
	if l != nil {
		p.serve(r, l)
	}
}

// rebind tries again what could not be served.
func (p *Proxy) rebind() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.routes {
		if r.server == nil && !p.closed {
			p.bind(r)
		}
	}
}
