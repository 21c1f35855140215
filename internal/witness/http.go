package witness

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Path is where a witness takes checkpoints, below its address.
const Path = "/add-checkpoint"

// Handler answers add-checkpoint (C2SP tlog-witness). Anybody may ask: what is
// not signed by a log that is followed gets nothing.
func (w *Witness) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+Path, w.serve)
	return mux
}

func (w *Witness) serve(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxRequest))
	if err != nil {
		http.Error(rw, "the request could not be read, or is too large", http.StatusBadRequest)
		return
	}
	line, err := w.Add(r.Context(), body)
	var conflict *conflictError
	switch {
	case err == nil:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = rw.Write(line)
	case errors.As(err, &conflict):
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(http.StatusConflict)
		fmt.Fprintf(rw, "%d\n", conflict.size)
	case errors.Is(err, errMalformed):
		http.Error(rw, err.Error(), http.StatusBadRequest)
	case errors.Is(err, errUnsigned):
		http.Error(rw, err.Error(), http.StatusForbidden)
	case errors.Is(err, errUnknownLog):
		http.Error(rw, err.Error(), http.StatusNotFound)
	case errors.Is(err, errNoExtension):
		http.Error(rw, err.Error(), http.StatusUnprocessableEntity)
	default:
		w.log.ErrorContext(r.Context(), "a checkpoint could not be cosigned", "error", err)
		http.Error(rw, "the witness cannot write its state", http.StatusInternalServerError)
	}
}
