package web

import (
	"context"
	"errors"
	"net/http"

	"github.com/sallyport-ci/sallyport"
)

// statusOf maps the codes of domain errors to HTTP statuses, here and nowhere else.
func statusOf(code sallyport.Code) int {
	switch code {
	case sallyport.CodeInvalid:
		return http.StatusBadRequest
	case sallyport.CodeDenied:
		return http.StatusForbidden
	case sallyport.CodeNotFound:
		return http.StatusNotFound
	case sallyport.CodeConflict:
		return http.StatusConflict
	case sallyport.CodeUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

type errorView struct {
	Status  int
	Heading string
	Message string
	Hint    string
}

var errorHeadings = map[sallyport.Code]string{
	sallyport.CodeInvalid:     "That request cannot be carried out",
	sallyport.CodeDenied:      "The door stays shut",
	sallyport.CodeNotFound:    "Nothing here",
	sallyport.CodeConflict:    "Not in this state",
	sallyport.CodeUnavailable: "Not available right now",
	sallyport.CodeInternal:    "Something went wrong on our side",
}

func (s *server) renderError(w http.ResponseWriter, r *http.Request, err error) {
	code := sallyport.ErrorCode(err)
	v := errorView{Status: statusOf(code), Heading: errorHeadings[code]}
	v.Message, v.Hint = sallyport.ErrorMessage(err)
	if tooBig := new(http.MaxBytesError); errors.As(err, &tooBig) {
		v = errorView{Status: http.StatusRequestEntityTooLarge, Heading: "Too large", Message: "the form is larger than 1 MiB"}
	}
	if err := s.renderStatus(w, r, v.Status, "error", view{Title: v.Heading, Body: v}); err != nil {
		s.log.ErrorContext(r.Context(), "error page failed", "request", requestID(r.Context()), "error", err)
		http.Error(w, "internal error "+requestID(r.Context()), http.StatusInternalServerError)
	}
}

// missing keeps an error that concerns a part of a page only: what could not
// be had, in words for the user. A part that was denied is left out silently.
func (s *server) missing(ctx context.Context, what string, err error) string {
	switch sallyport.ErrorCode(err) {
	case "", sallyport.CodeDenied:
		return ""
	case sallyport.CodeInternal, sallyport.CodeUnavailable:
		s.log.ErrorContext(ctx, "part of a page failed", "request", requestID(ctx), "part", what, "error", err)
	}
	message, _ := sallyport.ErrorMessage(err)
	return what + ": " + message
}

// invalid is the error of a form field.
func invalid(format string, args ...any) error {
	return sallyport.Errorf(sallyport.CodeInvalid, format, args...)
}
