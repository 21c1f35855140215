package rpc

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/sallyport-ci/sallyport"
)

// ProblemType is the media type of an error (RFC 9457).
const ProblemType = "application/problem+json"

// Problem is an error on the wire: RFC 9457 with our code and hint.
type Problem struct {
	Title   string         `json:"title,omitempty" doc:"The HTTP status in words"`
	Status  int            `json:"status" doc:"The HTTP status"`
	Detail  string         `json:"detail" doc:"What went wrong"`
	Code    sallyport.Code `json:"code" enum:"invalid,denied,not_found,conflict,unavailable,internal" doc:"What kind of failure it is"`
	Hint    string         `json:"hint,omitempty" doc:"The next step"`
	Request string         `json:"request,omitempty" doc:"The id under which the server logged the request"`
	// Errors are the faults of an invalid request, each with its place.
	Errors []Fault `json:"errors,omitempty"`
	// End is where a log ends, when a piece did not follow on it.
	End *int64 `json:"end,omitempty"`
}

// Fault is one fault of an invalid request.
type Fault struct {
	Location string `json:"location,omitempty" doc:"Where, such as body.updates[3].ref"`
	Message  string `json:"message"`
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus and ContentType make a Problem what the HTTP layer answers with.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType replaces the type of ordinary answers.
func (p *Problem) ContentType(string) string { return ProblemType }

// NewProblem returns the wire form of an error under the status that the server
// has chosen for its code. The cause of an internal error stays behind.
func NewProblem(err error, status int) *Problem {
	p := &Problem{Title: http.StatusText(status), Status: status, Code: sallyport.ErrorCode(err)}
	p.Detail, p.Hint = sallyport.ErrorMessage(err)
	if at, ok := errors.AsType[*logEndError](err); ok {
		p.End = &at.end
	}
	return p
}

// logEndError carries where a log ends beside the conflict that it caused.
type logEndError struct {
	error
	end int64
}

func (e *logEndError) Unwrap() error { return e.error }

// WithLogEnd adds to an error where the log ends, for the answer of AppendLog.
func WithLogEnd(err error, end int64) error { return &logEndError{err, end} }

// problemOf reads the error in an answer that is not a success.
func problemOf(status int, contentType string, body []byte) *Problem {
	var p Problem
	if contentType == ProblemType && json.Unmarshal(body, &p) == nil && p.Detail != "" {
		p.Status = status
		if p.Code == "" {
			p.Code = codeOf(status)
		}
		return &p
	}
	return &Problem{Status: status, Code: codeOf(status), Detail: "the server answered " + http.StatusText(status),
		Hint: "check that the address is that of Sallyport, and that nothing between alters the answers"}
}

// codeOf guesses the code of an answer that was not made by Sallyport.
func codeOf(status int) sallyport.Code {
	switch {
	case status == http.StatusNotFound:
		return sallyport.CodeNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return sallyport.CodeDenied
	case status == http.StatusConflict:
		return sallyport.CodeConflict
	case status == http.StatusTooManyRequests, status == http.StatusBadGateway,
		status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return sallyport.CodeUnavailable
	case status >= 400 && status < 500:
		return sallyport.CodeInvalid
	}
	return sallyport.CodeInternal
}

// err returns the error that the problem stands for.
func (p *Problem) err() *sallyport.Error {
	e := &sallyport.Error{Code: p.Code, Message: p.Detail, Hint: p.Hint}
	for i, f := range p.Errors {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		e.Message += sep + f.Location + " " + f.Message
	}
	if p.Request != "" && p.Status >= 500 { // the server logged those alone
		e.Err = errors.New("request " + p.Request)
	}
	return e
}
