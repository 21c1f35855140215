package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// reporter records what is wrong at a place of one file.
type reporter func(pos sallyport.Pos, format string, args ...any)

// order resolves the needs of the file's jobs, without regard to case. It
// returns the jobs so that each comes after those it needs, otherwise in the
// order of the file, and what each needs; no jobs after an error.
func (f *File) order(report reporter, warn reporter) ([]*Job, map[*Job][]*Job) {
	needs, ok := f.resolveNeeds(report, warn)
	if !ok {
		return nil, nil
	}
	jobs := f.Jobs
	out := make([]*Job, 0, len(jobs))
	done := make(map[*Job]bool, len(jobs))
	waits := func(need *Job) bool { return !done[need] }
	for len(out) < len(jobs) {
		before := len(out)
		for i := range jobs {
			j := &jobs[i]
			if !done[j] && !slices.ContainsFunc(needs[j], waits) {
				done[j] = true
				out = append(out, j)
			}
		}
		if len(out) == before {
			f.reportCycle(needs, waits, report)
			return nil, nil
		}
	}
	return out, needs
}

func (f *File) resolveNeeds(report, warn reporter) (map[*Job][]*Job, bool) {
	jobs, ok := f.Jobs, true
	needs := make(map[*Job][]*Job, len(jobs))
	index := make(map[string]*Job, len(jobs))
	var keys []string
	for i := range jobs {
		index[foldCase(jobs[i].Key)] = &jobs[i]
		keys = append(keys, jobs[i].Key)
	}
	for i := range jobs {
		j := &jobs[i]
		for _, t := range j.NeedsAt {
			need := index[foldCase(t.Text)]
			switch {
			case need == nil:
				ok = false
				report(t.Pos, "job %s needs %s, which is not a job of this workflow%s", quote(j.Key), quote(t.Text), didYouMean(t.Text, keys))
			case need == j:
				ok = false
				report(t.Pos, "job %s needs itself: remove it from its needs", quote(j.Key))
			case slices.Contains(needs[j], need): // GitHub takes it
				warn(t.Pos, "job %s needs %s twice: remove one", quote(j.Key), quote(t.Text))
			default:
				needs[j] = append(needs[j], need)
			}
		}
	}
	return needs, ok
}

// reportCycle names one cycle among the jobs that wait for each other, at a
// need that closes it.
func (f *File) reportCycle(needs map[*Job][]*Job, waits func(*Job) bool, report reporter) {
	var at *Job
	for i := range f.Jobs {
		if waits(&f.Jobs[i]) {
			at = &f.Jobs[i]
			break
		}
	}
	var path []*Job
	for !slices.Contains(path, at) { // each of them waits for another of them
		path = append(path, at)
		at = needs[at][slices.IndexFunc(needs[at], waits)]
	}
	path = append(path[slices.Index(path, at):], at)
	names := make([]string, len(path))
	for i, j := range path {
		names[i] = j.Key
	}
	pos := path[0].Pos
	for _, t := range path[0].NeedsAt {
		if equalFold(t.Text, path[1].Key) {
			pos = t.Pos
		}
	}
	report(pos, "the jobs need each other in a circle: %s; remove one of these needs", strings.Join(names, " needs "))
}
