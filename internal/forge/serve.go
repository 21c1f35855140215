package forge

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// The services of the smart HTTP protocol (gitprotocol-http).
const (
	UploadPack  = "git-upload-pack"  // fetch
	ReceivePack = "git-receive-pack" // push
)

// The largest list of wants and haves of a fetch.
const maxNegotiation = 32 << 20

// Serve answers one request of git's smart HTTP protocol, for a caller who was
// admitted already: a GET lists the refs for the service, a POST carries it out.
//
// For a push, judge gets the updates before git sees them; its error refuses
// them all and is shown to the pusher. done gets those that git then carried out,
// with the ref's true old value, also when the pusher is gone meanwhile; its
// text is shown to the pusher. Between judge and done nobody else writes to
// the repository. Besides, git itself refuses to delete or rewind the branch
// that HEAD names.
func (g *Git) Serve(w http.ResponseWriter, r *http.Request, p sallyport.ProjectID, service string,
	judge func([]sallyport.RefUpdate) error, done func([]sallyport.RefUpdate) string) {
	repo, err := g.open(p)
	if err != nil {
		g.fail(w, r, err)
		return
	}
	if service != UploadPack && service != ReceivePack {
		http.Error(w, "unknown service", http.StatusForbidden)
		return
	}
	w.Header().Set("Cache-Control", "no-cache, max-age=0, must-revalidate")
	switch r.Method {
	case http.MethodGet:
		g.advertise(w, r, repo, service)
	case http.MethodPost:
		if r.Header.Get("Content-Type") != "application/x-"+service+"-request" {
			http.Error(w, "unexpected content type", http.StatusUnsupportedMediaType)
			return
		}
		body, err := requestBody(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnsupportedMediaType)
			return
		}
		w.Header().Set("Content-Type", "application/x-"+service+"-result")
		if service == ReceivePack {
			g.receive(w, r, p, repo, body, judge, done)
			return
		}
		g.upload(w, r, repo, body)
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "use GET or POST", http.StatusMethodNotAllowed)
	}
}

// advertise answers info/refs.
func (g *Git) advertise(w http.ResponseWriter, r *http.Request, repo, service string) {
	env := protocol(r, service)
	w.Header().Set("Content-Type", "application/x-"+service+"-advertisement")
	out, err := g.output(r.Context(), command{
		config: serviceConfig,
		env:    env,
		args:   []string{strings.TrimPrefix(service, "git-"), "--stateless-rpc", "--http-backend-info-refs", "--", repo},
	})
	if err != nil {
		g.fail(w, r, err)
		return
	}
	var head []byte
	if env == nil {
		head = flush.append(line("# service=%s\n", service).append(nil))
	}
	_, _ = w.Write(append(head, out...))
}

// upload answers a fetch.
func (g *Git) upload(w http.ResponseWriter, r *http.Request, repo string, body io.Reader) {
	err := g.stream(r.Context(), command{
		config:  serviceConfig,
		env:     protocol(r, UploadPack),
		args:    []string{"upload-pack", "--stateless-rpc", "--", repo},
		stdin:   http.MaxBytesReader(w, io.NopCloser(body), maxNegotiation),
		timeout: transferTimeout,
	}, func(out io.Reader) error {
		return copyFlushing(w, out)
	})
	if err != nil {
		// The answer has begun; all that can be done is to break it off visibly.
		if r.Context().Err() == nil {
			g.log.WarnContext(r.Context(), "fetch broke off", slog.String("service", UploadPack), slog.Any("err", err))
		}
		panic(http.ErrAbortHandler)
	}
}

// serviceConfig is what upload-pack and receive-pack get beside the common settings.
var serviceConfig = []string{
	"uploadpack.allowFilter=true",
	"receive.certNonceSeed=",
	"receive.advertisePushOptions=false",
	"receive.denyDeleteCurrent=refuse",
	"receive.autogc=false",
	"receive.updateServerInfo=false",
	"receive.keepAlive=5",
	"uploadpack.keepAlive=5",
}

// protocol returns the environment that selects version 2, which exists for
// fetches alone.
func protocol(r *http.Request, service string) []string {
	if service == UploadPack && slices.Contains(strings.Split(r.Header.Get("Git-Protocol"), ":"), "version=2") {
		return []string{"GIT_PROTOCOL=version=2"}
	}
	return nil
}

// requestBody returns the body without its content encoding.
func requestBody(r *http.Request) (io.Reader, error) {
	switch r.Header.Get("Content-Encoding") {
	case "", "identity":
		return r.Body, nil
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, errors.New("malformed gzip body")
		}
		return z, nil
	}
	return nil, errors.New("unsupported content encoding")
}

// copyFlushing copies git's answer and flushes after every piece, so that
// progress is seen when it happens.
func copyFlushing(w http.ResponseWriter, r io.Reader) error {
	rc := http.NewResponseController(w)
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			_ = rc.Flush()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fail answers a request that could not be begun. Git shows the text of such
// an answer to its user when it is plain.
func (g *Git) fail(w http.ResponseWriter, r *http.Request, err error) {
	message, hint := sallyport.ErrorMessage(err)
	status := http.StatusInternalServerError
	switch sallyport.ErrorCode(err) {
	case sallyport.CodeNotFound:
		status = http.StatusNotFound
	case sallyport.CodeUnavailable:
		status = http.StatusServiceUnavailable
	default:
		if !errors.Is(err, context.Canceled) {
			g.log.ErrorContext(r.Context(), "git request failed", slog.Any("err", err))
		}
	}
	if hint != "" {
		message += "; " + hint
	}
	http.Error(w, message, status)
}
