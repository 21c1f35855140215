package toolkit

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"

	sallyport "github.com/sallyport-ci/sallyport"
)

// The toolkits call the results service by Twirp, protocol v7, in its JSON encoding:
// POST /twirp/<service>/<method>, field names as in the .proto file, 64-bit integers as strings.

// maxMessage bounds the body of a call; the largest has a name and a few ids.
const maxMessage = 64 << 10

// rpc registers a method of a service.
func rpc[In, Out any](s *Service, service, method string, call func(context.Context, In) (Out, error)) {
	s.handle("POST /twirp/"+service+"/"+method, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := readMessage(w, r, &in); err != nil {
			answerError(w, err)
			return
		}
		out, err := call(r.Context(), in)
		if err != nil {
			s.refused(err)
			answerError(w, err)
			return
		}
		answer(w, http.StatusOK, out)
	})
}

// readMessage decodes the body of a call. Unknown fields are left alone, as the
// protocol wants it.
func readMessage(w http.ResponseWriter, r *http.Request, into any) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return sallyport.Errorf(sallyport.CodeInvalid, "the content type %.80q is not application/json", kind)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return sallyport.Errorf(sallyport.CodeInvalid, "the call has more than %d bytes", maxMessage)
	case err != nil:
		return sallyport.Errorf(sallyport.CodeInvalid, "the call was cut off")
	}
	if err := json.Unmarshal(body, into); err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "the call is not the JSON of a message: %v", err)
	}
	return nil
}

// number is a 64-bit integer, which comes as a string or as a number.
type number int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	text := string(b)
	if text == "null" {
		return nil
	}
	if u, err := strconv.Unquote(text); err == nil {
		text = u
	}
	v, err := strconv.ParseInt(text, 10, 64)
	*n = number(v)
	return err
}

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatInt(int64(n), 10) + `"`), nil
}

// problem is an error as Twirp tells it. The toolkits show Msg and try again at
// 429 and from 500 on; those that do not speak Twirp show Message.
type problem struct {
	Code    string `json:"code"`
	Msg     string `json:"msg"`
	Message string `json:"message"`
}

// answerError tells why a call was refused.
func answerError(w http.ResponseWriter, err error) {
	status, code := http.StatusInternalServerError, "internal"
	switch sallyport.ErrorCode(err) {
	case sallyport.CodeInvalid:
		status, code = http.StatusBadRequest, "invalid_argument"
	case sallyport.CodeDenied:
		status, code = http.StatusForbidden, "permission_denied"
	case sallyport.CodeNotFound:
		status, code = http.StatusNotFound, "not_found"
	case sallyport.CodeConflict:
		status, code = http.StatusConflict, "already_exists"
	case sallyport.CodeUnavailable:
		status, code = http.StatusServiceUnavailable, "unavailable"
	}
	message, hint := sallyport.ErrorMessage(err)
	if hint != "" {
		message += " (" + hint + ")"
	}
	answer(w, status, problem{code, message, message})
}

// refused looks at an error of the control plane: a conflict may mean that the
// lease is lost.
func (s *Service) refused(err error) {
	switch sallyport.ErrorCode(err) {
	case sallyport.CodeConflict:
		s.cfg.Lost()
	case sallyport.CodeInternal:
		s.cfg.Log.Error("toolkit's call was not answered", "err", err)
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the job may have gone
}
