package web

import (
	"context"

	"github.com/sallyport-ci/sallyport"
)

// failure is why a job failed, as far as its run's page tells it.
type failure struct {
	Job         sallyport.Job
	Step        *sallyport.Step // the first that failed; nil for none
	Annotations []sallyport.Annotation
	Tail        []sallyport.LogLine // the last lines of that step
}

const (
	maxFailures    = 5  // jobs of which the cause is spelled out
	maxAnnotations = 20 // of one job, on the run's page
	tailLines      = 16 // last lines of the failed step
	tailBytes      = 64 << 10
	// maxLogSize ends the search for the end of a log; no log is longer.
	maxLogSize = 1 << 36
)

// failures explains the jobs that failed, so that nobody has to go and look.
func (s *server) failures(ctx context.Context, jobs []sallyport.Job) []failure {
	var out []failure
	called := map[sallyport.JobID]bool{} // a call fails by its jobs
	for _, j := range jobs {
		called[j.Parent] = called[j.Parent] || j.Conclusion == sallyport.Failure
	}
	for _, j := range jobs {
		if j.Conclusion != sallyport.Failure || j.Tolerated || called[j.ID] || len(out) == maxFailures {
			continue
		}
		f := failure{Job: j}
		for i := range j.Steps {
			st := &j.Steps[i]
			if st.Outcome != sallyport.Failure && st.Conclusion != sallyport.Failure {
				continue
			}
			if f.Step == nil {
				f.Step = st
			}
			for _, a := range st.Annotations {
				if a.Level == "error" && len(f.Annotations) < maxAnnotations {
					f.Annotations = append(f.Annotations, a)
				}
			}
		}
		f.Tail = s.logTail(ctx, j.ID, f.Step)
		out = append(out, f)
	}
	return out
}

// logTail returns the last lines of a step, or of the job when step is nil;
// nothing when the log cannot be read: the log's own page says why.
func (s *server) logTail(ctx context.Context, j sallyport.JobID, step *sallyport.Step) []sallyport.LogLine {
	from, err := s.logEndNear(ctx, j)
	if err != nil {
		return nil
	}
	data, _, err := s.Runs.Log(ctx, j, from, 2*tailBytes, 0)
	if err != nil {
		return nil
	}
	lines, _ := decodeLog(data, from > 0)
	var out []sallyport.LogLine
	for i := len(lines) - 1; i >= 0 && len(out) < tailLines; i-- {
		l := lines[i]
		if (step == nil || l.Step == step.Number) && l.Kind != sallyport.LogGroup && l.Kind != sallyport.LogEndGroup && l.Kind != sallyport.LogDebug {
			out = append(out, l)
		}
	}
	for i, k := 0, len(out)-1; i < k; i, k = i+1, k-1 {
		out[i], out[k] = out[k], out[i]
	}
	return out
}

// logEndNear returns an offset at most 2*tailBytes before the end of the log. The log's size is
// nowhere to be had, so it is searched by probing: log2(size/tailBytes) reads of one byte.
func (s *server) logEndNear(ctx context.Context, j sallyport.JobID) (int64, error) {
	has := func(offset int64) (bool, error) {
		data, _, err := s.Runs.Log(ctx, j, offset, 1, 0)
		switch sallyport.ErrorCode(err) {
		case "":
			return len(data) > 0, nil
		case sallyport.CodeInvalid, sallyport.CodeConflict: // beyond the end
			return false, nil
		default:
			return false, err
		}
	}
	low, high := int64(0), int64(tailBytes) // low is within the log or 0
	for high < maxLogSize {
		ok, err := has(high)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		low, high = high, high*2
	}
	for high-low > tailBytes {
		mid := low + (high-low)/2
		ok, err := has(mid)
		if err != nil {
			return 0, err
		}
		if ok {
			low = mid
		} else {
			high = mid
		}
	}
	return max(0, low-tailBytes), nil
}
