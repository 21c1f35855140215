package cli

import (
	"encoding/json"

	"github.com/sallyport-ci/sallyport"
)

// runResult is the last line of the JSON output.
type runResult struct {
	Type       string               `json:"type"` // "run"
	Conclusion sallyport.Conclusion `json:"conclusion"`
	Cause      string               `json:"cause,omitempty"`
	// Invalid are the errors of workflows that do not compile: each is a run that failed.
	Invalid []sallyport.Diagnostic `json:"invalid,omitempty"`
	Jobs    []jobResult            `json:"jobs"`
}

type jobResult struct {
	ID         string               `json:"id"` // key in the workflow; CALLER/KEY in one that is called
	Name       string               `json:"name"`
	Workflow   string               `json:"workflow"`
	Matrix     json.RawMessage      `json:"matrix"`
	Conclusion sallyport.Conclusion `json:"conclusion"`
	Cause      string               `json:"cause,omitempty"`
	Outputs    map[string]string    `json:"outputs"`
	Steps      []stepResult         `json:"steps"`
}

type stepResult struct {
	ID         string               `json:"id"`
	Name       string               `json:"name"`
	Outcome    sallyport.Conclusion `json:"outcome"`
	Conclusion sallyport.Conclusion `json:"conclusion"`
	// Annotations are the errors, warnings and notices of the step, and what problem matchers found.
	Annotations []sallyport.Annotation `json:"annotations,omitempty"`
}

func (v *runView) result() runResult {
	out := runResult{Type: "run", Conclusion: sallyport.Skipped, Jobs: []jobResult{}}
	for _, r := range v.runs {
		if r.Conclusion == sallyport.Success && out.Conclusion == sallyport.Skipped {
			out.Conclusion = sallyport.Success
		}
		if r.Conclusion != sallyport.Success && r.Conclusion != sallyport.Skipped && out.Conclusion != sallyport.Failure {
			out.Conclusion, out.Cause = r.Conclusion, r.Cause
		}
		out.Invalid = append(out.Invalid, r.wrong...)
		for _, j := range r.jobs {
			jr := jobResult{ID: j.Key, Name: j.Name, Workflow: r.Workflow, Matrix: j.Matrix, Conclusion: j.Conclusion, Cause: j.Cause,
				Outputs: j.Outputs, Steps: []stepResult{}}
			if len(jr.Matrix) == 0 {
				jr.Matrix = json.RawMessage("null")
			}
			if jr.Outputs == nil {
				jr.Outputs = map[string]string{}
			}
			for _, s := range j.Steps {
				jr.Steps = append(jr.Steps, stepResult{s.ID, s.Name, s.Outcome, s.Conclusion, s.Annotations})
			}
			out.Jobs = append(out.Jobs, jr)
		}
	}
	return out
}
