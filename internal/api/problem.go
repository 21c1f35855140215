package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/rpc"
)

// statusOf is the one table from codes to HTTP statuses.
func statusOf(code sallyport.Code) int {
	switch code {
	case sallyport.CodeInvalid:
		return http.StatusUnprocessableEntity
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

// problem turns an error into what is sent. What is not the caller's fault is
// logged here, once, under the id that the caller is told.
func (s *server) problem(ctx context.Context, err error) *rpc.Problem {
	if known := (*sallyport.Error)(nil); !errors.As(err, &known) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		err = sallyport.Errorf(sallyport.CodeUnavailable, "the request was given up").WithHint("try again")
	}
	p := rpc.NewProblem(err, statusOf(sallyport.ErrorCode(err)))
	p.Request = requestID(ctx)
	if p.Status >= 500 && ctx.Err() == nil { // else the caller is gone, which is no fault
		s.Log.ErrorContext(ctx, "request failed", slog.String("request", p.Request), slog.Any("err", err))
	}
	return p
}

// fail answers with an error.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	write(w, s.problem(r.Context(), err))
}

func write(w http.ResponseWriter, p *rpc.Problem) {
	h := w.Header()
	h.Set("Content-Type", rpc.ProblemType)
	h.Del("Content-Length")
	h.Del("ETag")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// ours turns the errors of the HTTP layer (a malformed body, a field out of
// range) into the same form as all others. Values are left out: they may be secret.
func ours(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := &rpc.Problem{Title: m.Title, Status: m.Status, Detail: m.Detail, Code: sallyport.CodeInvalid, Request: requestID(ctx.Context())}
	if m.Status >= 500 {
		p.Code = sallyport.CodeInternal
	}
	if p.Detail == "validation failed" {
		p.Detail = "the request is not valid"
	}
	for _, e := range m.Errors {
		p.Errors = append(p.Errors, rpc.Fault{Location: e.Location, Message: strings.TrimSpace(e.Message)})
	}
	return p, nil
}
