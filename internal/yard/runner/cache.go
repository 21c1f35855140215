package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

// cacheFormat is part of the version of the caches that this file makes: other
// archives under the same paths, such as those of the toolkit, are none of its.
const cacheFormat = "sallyport-tar-zstd-1"

// cacheRequest is what a step asks of the cache.
type cacheRequest struct {
	key     string
	restore []string // keys whose beginning is enough
	paths   cachePaths
	version string
}

// cacheRequest reads the inputs that the cache actions have in common.
func (s *step) cacheRequest(in inputs) (cacheRequest, error) {
	r := cacheRequest{key: in.text("key", ""), restore: lines(in.text("restore-keys", ""))}
	for _, name := range []string{"key", "path"} {
		if in.text(name, "") == "" {
			return r, sallyport.Errorf(sallyport.CodeInvalid, "input required and not supplied: %s", name)
		}
	}
	paths := lines(in.text("path", ""))
	var err error
	if r.paths, err = s.job.layout.cachePaths(paths); err != nil {
		return r, err
	}
	sum := sha256.Sum256([]byte(strings.Join(append(paths, cacheFormat), "|")))
	r.version = hex.EncodeToString(sum[:])
	if err := r.query().Check(); err != nil {
		return r, err
	}
	for _, k := range append([]string{r.key}, r.restore...) {
		if s.job.mask.Contains(k) {
			return r, sallyport.Errorf(sallyport.CodeInvalid, "the cache key holds a secret").WithHint("keys are kept and shown in clear; use a hash of what the cache is made from")
		}
	}
	return r, nil
}

// lines splits an input of several lines as the toolkit does.
func lines(text string) []string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func (r cacheRequest) query() sallyport.CacheQuery {
	return sallyport.CacheQuery{Key: r.key, RestoreKeys: r.restore, Version: r.version}
}

// exact reports whether a key is the one that was asked for. Letters of another case
// are the same, as for GitHub's action.
func (r cacheRequest) exact(key string) bool { return strings.EqualFold(r.key, key) }

// cache restores, and saves when the job's steps have ended well unless it had just that.
func (s *step) cache(ctx context.Context, in inputs) error {
	always, err := in.boolean("save-always", false)
	if err != nil {
		return err
	}
	r, err := s.cacheRequest(in)
	if err != nil {
		return err
	}
	key, err := s.restoreCache(ctx, in, r)
	if err != nil {
		return err
	}
	cond := "success()"
	if always {
		cond = "always()"
	}
	s.job.after(post{of: s, cond: cond, run: func(ctx context.Context, s *step) error {
		s.commands.token = "\x00" // no commands, as in the step itself
		s.out.print(sallyport.LogGroup, s.when+"Run "+s.plan.Uses)
		s.out.print(sallyport.LogEndGroup, "")
		if key != "" && r.exact(key) {
			s.out.print(sallyport.LogOutput, fmt.Sprintf("Cache hit occurred on the primary key %s, not saving cache.", r.key))
			return nil
		}
		return s.saveCache(ctx, r)
	}})
	return nil
}

// cacheRestore is the first half of it alone.
func (s *step) cacheRestore(ctx context.Context, in inputs) error {
	r, err := s.cacheRequest(in)
	if err != nil {
		return err
	}
	_, err = s.restoreCache(ctx, in, r)
	return err
}

// cacheSave is the second.
func (s *step) cacheSave(ctx context.Context, in inputs) error {
	r, err := s.cacheRequest(in)
	if err != nil {
		return err
	}
	return s.saveCache(ctx, r)
}

// restoreCache finds an entry, unpacks it and sets the outputs. key is that of the
// entry, "" when there is none.
func (s *step) restoreCache(ctx context.Context, in inputs, r cacheRequest) (key string, err error) {
	failOnMiss, err := in.boolean("fail-on-cache-miss", false)
	if err != nil {
		return "", err
	}
	lookup, err := in.boolean("lookup-only", false)
	if err != nil {
		return "", err
	}
	if err := s.setOutput(workflow.Var{Name: "cache-primary-key", Value: r.key}); err != nil {
		return "", err
	}
	entry, err := s.findCache(ctx, r.query())
	if err == nil && !lookup {
		err = s.unpackCache(ctx, entry, r.paths)
	}
	switch code := sallyport.ErrorCode(err); {
	case code == sallyport.CodeDenied:
		s.out.print(sallyport.LogWarning, "Failed to restore: "+sentence(err.Error()))
	case code == sallyport.CodeNotFound:
	case err != nil:
		return "", err
	default:
		s.out.print(sallyport.LogOutput, "Cache "+restoredOrFound(lookup)+" from key: "+entry.Key)
		err := s.setOutput(workflow.Var{Name: "cache-matched-key", Value: entry.Key})
		return entry.Key, errors.Join(err, s.setOutput(workflow.Var{Name: "cache-hit", Value: fmt.Sprint(r.exact(entry.Key))}))
	}
	// cache-hit stays empty, as GitHub's action leaves it.
	if failOnMiss {
		return "", &failure{message: "Failed to restore cache entry. Exiting as fail-on-cache-miss is set. Input key: " + r.key}
	}
	s.out.print(sallyport.LogOutput, "Cache not found for input keys: "+strings.Join(append([]string{r.key}, r.restore...), ", "))
	return "", nil
}

func restoredOrFound(lookup bool) string {
	if lookup {
		return "found and can be restored"
	}
	return "restored"
}

func (s *step) findCache(ctx context.Context, q sallyport.CacheQuery) (entry sallyport.CacheEntry, err error) {
	err = retry(ctx, func() error {
		entry, err = s.job.runner.cfg.Yard.FindCache(ctx, s.job.lease.Ref, q)
		return err
	})
	return entry, err
}

// unpackCache fetches an entry and unpacks it. The archive is checked here and unpacked
// inside the room, where links can do no harm.
func (s *step) unpackCache(ctx context.Context, entry sallyport.CacheEntry, paths cachePaths) error {
	j := s.job
	var content io.ReadCloser
	err := retry(ctx, func() (err error) {
		_, content, err = j.runner.cfg.Yard.GetCache(ctx, j.lease.Ref, entry.ID)
		return err
	})
	if err != nil {
		return err
	}
	defer content.Close()
	s.out.print(sallyport.LogOutput, fmt.Sprintf("Cache Size: ~%d MB (%d B)", (entry.Size+1<<19)>>20, entry.Size))
	r, w := io.Pipe()
	checked := make(chan error, 1)
	go func() {
		err := paths.unpack(w, content)
		checked <- err
		_ = w.CloseWithError(err)
	}()
	err = s.toolFor(ctx, paths.searches(), sallyport.ExecSpec{
		Argv: []string{"tar", "--extract", "--file=-", "--directory=/", "--no-same-owner", "--preserve-permissions"}, Stdin: r,
	})
	_ = r.CloseWithError(io.ErrClosedPipe)
	if cerr := <-checked; cerr != nil && !errors.Is(cerr, io.ErrClosedPipe) {
		if sallyport.ErrorCode(cerr) == sallyport.CodeInvalid {
			// Part of it may be unpacked: going on as if there were no cache would be wrong.
			return sallyport.Errorf(sallyport.CodeInvalid, "the cache %s is refused: %w", entry.ID, cerr).WithHint("delete it with: sallyport caches delete")
		}
		return cerr
	}
	return err
}

// saveCache packs the paths and hands them in. As with GitHub's action a cache that
// cannot be saved is a warning and fails nothing.
func (s *step) saveCache(ctx context.Context, r cacheRequest) error {
	warn := func(format string, args ...any) error {
		s.out.print(sallyport.LogWarning, fmt.Sprintf(format, args...))
		return nil
	}
	taken := fmt.Sprintf("Failed to save: Unable to reserve cache with key %s, another job may be creating this cache.", r.key)
	_, err := s.findCache(ctx, sallyport.CacheQuery{Key: r.key, Version: r.version, Saving: true})
	switch {
	case err == nil:
		s.out.print(sallyport.LogOutput, taken)
		return nil
	case sallyport.ErrorCode(err) != sallyport.CodeNotFound:
		return s.unsaved(err)
	}
	names, err := s.listCache(ctx, r.paths)
	if err != nil {
		return s.unsaved(err)
	}
	if len(names) == 0 {
		return warn("Path Validation Error: Path(s) specified in the action for caching do(es) not exist, hence no cache is being saved.")
	}
	var entry sallyport.CacheEntry
	var broken error
	err = retry(ctx, func() (err error) {
		if entry, broken, err = s.putCache(ctx, r, names); broken != nil {
			return nil // sending it again would not help
		}
		return err
	})
	if broken != nil {
		return s.unsaved(broken)
	}
	switch sallyport.ErrorCode(err) {
	case "":
		s.out.print(sallyport.LogOutput, fmt.Sprintf("Cache Size: ~%d MB (%d B)", (entry.Size+1<<19)>>20, entry.Size))
		s.out.print(sallyport.LogOutput, "Cache saved with key: "+r.key)
		return nil
	case sallyport.CodeConflict:
		s.job.poke() // either the key is taken or the lease is lost
		s.out.print(sallyport.LogOutput, taken)
		return nil
	}
	return s.unsaved(err)
}

// unsaved turns why a cache was not saved into a warning, unless the job cannot go on.
func (s *step) unsaved(err error) error {
	err = s.fail(err)
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	s.out.print(sallyport.LogWarning, "Failed to save: "+f.message)
	if f.hint != "" {
		s.out.print(sallyport.LogSystem, f.hint)
	}
	return nil
}

// putCache packs in the room, where all the paths are, and passes on what comes out of
// it once it was looked through. broken is why that went wrong on our side.
func (s *step) putCache(ctx context.Context, r cacheRequest, names []string) (entry sallyport.CacheEntry, broken, err error) {
	j := s.job
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	fromTar, tarOut := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := s.tarRoom(ctx, tarOut, names)
		_ = tarOut.CloseWithError(err)
		ended <- err
	}()
	content, packed := io.Pipe()
	looked := make(chan error, 1)
	go func() {
		err := r.paths.pack(packed, fromTar)
		_ = fromTar.CloseWithError(io.ErrClosedPipe)
		looked <- err
		_ = packed.CloseWithError(err)
	}()
	entry, err = j.runner.cfg.Yard.PutCache(ctx, j.lease.Ref, r.key, r.version, content)
	_ = content.CloseWithError(io.ErrClosedPipe)
	if err != nil {
		stop(io.ErrClosedPipe) // tar need not go on
	}
	for _, cause := range []error{<-ended, <-looked} { // whoever failed first made the others fail
		if err != nil && cause != nil && !errors.Is(cause, io.ErrClosedPipe) {
			return entry, cause, err
		}
	}
	return entry, nil, err
}

// listCache returns what there is of the paths, in the form that tar wants.
func (s *step) listCache(ctx context.Context, paths cachePaths) ([]string, error) {
	return s.listRoom(ctx, paths.searches(), "", paths.selects)
}
