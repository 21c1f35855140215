package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
	"github.com/sallyport-ci/sallyport/internal/yard/toolkit"
)

// download unpacks artifacts of the run, or of another run of the project that run-id names and
// the control plane allows, in the room: one by name
// into the directory itself, else all, or those that a pattern or ids select, each
// into a directory of its name unless they are to be merged.
func (s *step) download(ctx context.Context, in inputs) error {
	j := s.job
	name, ids := in.text("name", ""), in.text("artifact-ids", "")
	run := sallyport.RunID(in.text("run-id", ""))
	if own, _ := s.frame.scope.Get("github").Get("repository"); !strings.EqualFold(in.text("repository", own.String()), own.String()) {
		return sallyport.Errorf(sallyport.CodeInvalid, "the input repository is not available: artifacts come from runs of this project").WithHint("remove it")
	}
	if name != "" && ids != "" {
		return sallyport.Errorf(sallyport.CodeInvalid, "the inputs name and artifact-ids cannot be used together").WithHint("remove one of them")
	}
	merge, err := in.boolean("merge-multiple", false)
	if err != nil {
		return err
	}
	dir := j.layout.absolute(in.text("path", "."))
	if hasNUL(dir) {
		return sallyport.Errorf(sallyport.CodeInvalid, "the path %.200q has a zero byte", dir)
	}
	if name != "" {
		err = s.unpackArtifact(ctx, run, name, dir)
	} else {
		err = s.downloadSome(ctx, in, run, dir, merge)
	}
	if err != nil {
		return err
	}
	return s.setOutput(workflow.Var{Name: "download-path", Value: dir})
}

// downloadSome unpacks the artifacts that the inputs select.
func (s *step) downloadSome(ctx context.Context, in inputs, run sallyport.RunID, dir string, merge bool) error {
	var all []sallyport.Artifact
	err := retry(ctx, func() (err error) {
		all, err = s.job.runner.cfg.Yard.Artifacts(ctx, s.job.lease.Ref, run)
		return err
	})
	if err != nil {
		return err
	}
	ids := in.text("artifact-ids", "")
	if ids != "" {
		if all, err = withIDs(all, ids); err != nil {
			return err
		}
		merge = merge || len(all) == 1
	} else if all, err = matching(all, in.text("pattern", "")); err != nil {
		return err
	}
	s.out.print(sallyport.LogOutput, fmt.Sprintf("%d artifacts are selected.", len(all)))
	for _, a := range all {
		into := dir
		if !merge {
			into = path.Join(dir, a.Name)
		}
		if err := s.unpackArtifact(ctx, run, a.Name, into); err != nil {
			return err
		}
	}
	return nil
}

// withIDs returns the artifacts with the ids, which are separated by commas; also
// with those that the toolkits know.
func withIDs(all []sallyport.Artifact, ids string) ([]sallyport.Artifact, error) {
	var out []sallyport.Artifact
	for id := range strings.SplitSeq(ids, ",") {
		if id = strings.TrimSpace(id); id == "" {
			continue
		}
		i := slices.IndexFunc(all, func(a sallyport.Artifact) bool {
			return string(a.ID) == id || strconv.FormatInt(toolkit.ArtifactNumber(a.ID), 10) == id
		})
		if i < 0 {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "the run has no artifact with the id %.80q", id).WithHint("the job that uploads it must be in needs:")
		}
		out = append(out, all[i])
	}
	return out, nil
}

// maxAlternatives bounds what the braces of a pattern may make of it.
const maxAlternatives = 1000

// matching returns the artifacts whose name matches a pattern with *, ?, [ ], { } and a
// leading !; all when the pattern is empty.
func matching(all []sallyport.Artifact, pattern string) ([]sallyport.Artifact, error) {
	if pattern == "" {
		return all, nil
	}
	text, negate := strings.CutPrefix(pattern, "!")
	patterns, ok := alternatives(text)
	if !ok {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the pattern %.200q has more than %d alternatives", pattern, maxAlternatives)
	}
	var out []sallyport.Artifact
	for _, a := range all {
		matches := false
		for _, p := range patterns {
			ok, err := path.Match(strings.ReplaceAll(p, "[!", "[^"), a.Name)
			if err != nil {
				return nil, sallyport.Errorf(sallyport.CodeInvalid, "%.200q is not a valid pattern", pattern)
			}
			hidden := strings.HasPrefix(a.Name, ".") && !strings.HasPrefix(p, ".")
			matches = matches || ok && !hidden
		}
		if matches != negate {
			out = append(out, a)
		}
	}
	return out, nil
}

// alternatives expands the innermost braces of a pattern until none are left.
func alternatives(pattern string) (out []string, ok bool) {
	todo := []string{pattern}
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		end := strings.IndexByte(p, '}')
		begin := strings.LastIndexByte(p[:max(end, 0)], '{')
		if end < 0 || begin < 0 || !strings.Contains(p[begin:end], ",") {
			out = append(out, p)
		} else {
			for one := range strings.SplitSeq(p[begin+1:end], ",") {
				todo = append(todo, p[:begin]+one+p[end+1:])
			}
		}
		if len(out)+len(todo) > maxAlternatives {
			return nil, false
		}
	}
	return out, true
}

// unpackArtifact fetches an artifact and unpacks it. The archive is checked here
// and unpacked inside the room, where links can do no harm.
func (s *step) unpackArtifact(ctx context.Context, run sallyport.RunID, name, dir string) error {
	j := s.job
	if err := checkArtifactName(name); err != nil {
		return err
	}
	var artifact sallyport.Artifact
	var content io.ReadCloser
	err := retry(ctx, func() (err error) {
		artifact, content, err = j.runner.cfg.Yard.GetArtifact(ctx, j.lease.Ref, run, name)
		return err
	})
	if err != nil {
		return err
	}
	defer content.Close()

	r, w := io.Pipe()
	type outcome struct {
		files int
		err   error
	}
	filtered := make(chan outcome, 1)
	go func() {
		n, err := filter(w, content, sameName)
		filtered <- outcome{n, err}
		_ = w.CloseWithError(err)
	}()
	err = s.toolFor(ctx, []string{dir}, sallyport.ExecSpec{
		Argv: []string{"sh", "-ec", `mkdir -p -- "$1" && exec tar -x -f - -C "$1" --no-same-owner`, "sh", dir}, Stdin: r,
	})
	_ = r.CloseWithError(io.ErrClosedPipe)
	got := <-filtered
	if got.err != nil && !errors.Is(got.err, io.ErrClosedPipe) {
		return sallyport.Errorf(sallyport.CodeInvalid, "unpack the artifact: %w", got.err)
	}
	if err != nil {
		return err
	}
	s.out.print(sallyport.LogOutput, fmt.Sprintf("Artifact %s: %d files unpacked to %s.", artifact.Name, got.files, dir))
	return nil
}
