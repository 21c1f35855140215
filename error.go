package sallyport

import (
	"errors"
	"fmt"
)

// Code says what kind of failure an Error is. Faces map codes to exit codes
// and HTTP statuses in one table each; nothing else may be derived from text.
type Code string

const (
	CodeInvalid     Code = "invalid"     // the request is wrong and stays wrong
	CodeDenied      Code = "denied"      // the principal may not do this
	CodeNotFound    Code = "not_found"   // there is no such thing, or none the principal may see
	CodeConflict    Code = "conflict"    // the state does not allow it now
	CodeUnavailable Code = "unavailable" // may succeed later
	CodeInternal    Code = "internal"    // our own fault
)

// Error is a failure with a meaning. Message and Hint are written for users
// and never carry a secret or a host path; Err is for operators' logs.
type Error struct {
	Code    Code
	Message string
	Hint    string // the next step, in one sentence; may be empty
	Err     error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// WithHint returns a copy of e that tells the user the next step.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// Errorf makes an Error. A %w verb keeps the cause in Err for operators; the
// cause's text is then part of the message, so wrap only causes fit for users.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: nil, Hint: hintOf(errors.Unwrap(err))}
}

func hintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// ErrorCode returns the code of the first Error in err's chain, CodeInternal
// for any other error, and "" for nil.
func ErrorCode(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// ErrorMessage returns the text a user may see. Internal errors are not
// spelled out: their cause belongs in the operator's log.
func ErrorMessage(err error) (message, hint string) {
	var e *Error
	if !errors.As(err, &e) || e.Code == CodeInternal {
		return "internal error", "look into the log of the control plane; the request id finds the entry"
	}
	return e.Message, e.Hint
}
