package web

import (
	"net/http"
	"strconv"
	"time"

	"github.com/sallyport-ci/sallyport"
)

type jobView struct {
	Run     sallyport.Run
	Project sallyport.Project
	Job     sallyport.Job
	Jobs    []sallyport.Job // of the run, to go from one to the next
	Lines   []logRow
	First   int64  // number of the first line shown
	Next    string // URL of the following lines, "" at the present end
	Have    string // fingerprint of the state shown
	Tokens  []sallyport.IssuedToken
	Start   bool // the page shows the log from its beginning
}

// logRow is one line of a log as the page without script shows it.
type logRow struct {
	sallyport.LogLine
	Number int64
	Header string // name of the step that begins here
}

// Clock is the line's time of day.
func (l logRow) Clock() string { return time.UnixMilli(l.At).UTC().Format("15:04:05.000") }

// Base is the URL of the job.
func (v jobView) Base() string { return "/runs/" + string(v.Run.ID) + "/jobs/" + string(v.Job.ID) }

// findJob returns the run and the job that the path names.
func (s *server) findJob(r *http.Request) (jobView, sallyport.Job, error) {
	run, jobs, err := s.Runs.Run(r.Context(), sallyport.RunID(r.PathValue("run")))
	if err != nil {
		return jobView{}, sallyport.Job{}, err
	}
	for _, j := range jobs {
		if string(j.ID) == r.PathValue("job") {
			return jobView{Run: run, Job: j, Jobs: jobs, Have: fingerprint(run, jobs)}, j, nil
		}
	}
	return jobView{}, sallyport.Job{}, sallyport.Errorf(sallyport.CodeNotFound, "the run has no such job")
}

// jobPage shows a job with its log: the first part of it, or that from
// ?offset= whose first line has the number ?line=.
func (s *server) jobPage(w http.ResponseWriter, r *http.Request) error {
	v, job, err := s.findJob(r)
	if err != nil {
		return err
	}
	if v.Project, err = s.Projects.Project(r.Context(), string(v.Run.Project)); err != nil {
		return err
	}
	if v.Tokens, err = s.Issuers.IssuedTokens(r.Context(), job.ID); err != nil {
		return err
	}
	if r.Header.Get(fragmentHeader) == "" {
		if err := s.fillLog(r, &v); err != nil {
			return err
		}
	}
	runURL := "/runs/" + string(v.Run.ID)
	page := view{Title: job.Name, Nav: "runs", Body: v, Wide: true,
		Crumbs: []crumb{{v.Project.Name, "/projects/" + v.Project.Name}, {"Run #" + strconv.FormatInt(v.Run.Number, 10), runURL}}}
	if job.Status != sallyport.StatusCompleted {
		page.Refresh = 15
	}
	return s.render(w, r, "job", page)
}

// fillLog reads the part of the log that the page shows without script.
func (s *server) fillLog(r *http.Request, v *jobView) error {
	offset, err := queryInt(r, "offset", 0)
	if err != nil {
		return err
	}
	if v.First, err = queryInt(r, "line", 1); err != nil {
		return err
	}
	data, err := s.readLog(r.Context(), v.Job.ID, offset, logPage)
	if err != nil {
		return err
	}
	v.Start = offset == 0
	lines, _ := decodeLog(data, false)
	v.Lines = v.number(lines)
	if next := offset + int64(len(data)); len(data) > logPage/2 {
		v.Next = v.Base() + "?offset=" + strconv.FormatInt(next, 10) + "&line=" + strconv.FormatInt(v.First+int64(len(lines)), 10) + "#log"
	}
	return nil
}

// number gives each line its number, and its step's name to the first of each step.
func (v *jobView) number(lines []sallyport.LogLine) []logRow {
	names := map[int]string{0: "The room"}
	for _, st := range v.Job.Steps {
		names[st.Number] = st.Name
	}
	out, last := make([]logRow, len(lines)), -1
	for i, l := range lines {
		out[i] = logRow{LogLine: l, Number: v.First + int64(i)}
		if l.Step != last {
			out[i].Header, last = names[l.Step], l.Step
		}
	}
	return out
}

// queryInt reads a number from 0 on from the query.
func queryInt(r *http.Request, name string, def int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, invalid("%s must be a number from 0 on", name)
	}
	return n, nil
}
