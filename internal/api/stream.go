package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sallyport-ci/sallyport/internal/rpc"
)

// bytesOf serves a call that answers bytes held in memory.
func bytesOf[In any](s *server, c rpc.Call[In, rpc.Bytes], kind string, f func(context.Context, *In) ([]byte, error)) {
	huma.Register(s.huma, operation(s, c, kind), func(ctx context.Context, in *In) (*content, error) {
		b, err := f(ctx, in)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return &content{kind, b}, nil
	})
}

// logChunk is a piece of a job's log.
type logChunk struct {
	Type string `header:"Content-Type"`
	Done bool   `header:"Sallyport-Log-Done" doc:"Nothing will follow"`
	Body []byte
}

// The type of a log: LogLines as JSON lines.
const logType = "application/x-ndjson"

func (s *server) log() {
	huma.Register(s.huma, operation(s, rpc.ReadLog, logType), func(ctx context.Context, in *rpc.LogIn) (*logChunk, error) {
		wait := min(time.Duration(in.Wait)*time.Millisecond, rpc.MaxWait)
		if in.Max == 0 {
			in.Max = 1 << 20
		}
		// The service ends its wait itself; ours is for a shutdown meanwhile.
		waiting, over, cancel := patience(ctx, rpc.MaxWait+10*time.Second)
		defer cancel()
		data, done, err := s.Services.Runs.Log(waiting, in.Job, in.Offset, in.Max, wait)
		if err != nil && over() {
			data, done, err = nil, false, nil
		}
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return &logChunk{logType, done, data}, nil
	})
}

// download is an answer that is written while it is read.
type download struct {
	Type string `header:"Content-Type"`
	Body func(huma.Context)
}

func (s *server) openArtifact() {
	const kind = "application/octet-stream"
	huma.Register(s.huma, operation(s, rpc.OpenContent, kind), func(ctx context.Context, in *rpc.ByArtifact) (*download, error) {
		r, err := s.Services.Artifacts.Open(ctx, in.Artifact)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return s.stream(ctx, kind, r), nil
	})
}

// stream answers with all of r, and closes it.
func (s *server) stream(ctx context.Context, kind string, r io.ReadCloser) *download {
	return s.written(ctx, kind, r, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// written answers with what f writes, and closes r. An answer that cannot be
// completed is broken off, so that nobody takes a part for the whole.
func (s *server) written(ctx context.Context, kind string, r io.Closer, f func(io.Writer) error) *download {
	return &download{kind, func(hc huma.Context) {
		defer r.Close()
		if err := f(hc.BodyWriter()); err != nil {
			if ctx.Err() == nil {
				s.Log.WarnContext(ctx, "answer broke off", slog.String("request", requestID(ctx)), slog.Any("err", err))
			}
			panic(http.ErrAbortHandler)
		}
	}}
}

// upload is a call whose body is read while it comes.
type upload struct {
	rpc.NamedIn
	content io.Reader
}

// Resolve keeps the body (huma.Resolver).
func (u *upload) Resolve(ctx huma.Context) []error {
	u.content = ctx.BodyReader()
	return nil
}

// cacheUpload is likewise.
type cacheUpload struct {
	rpc.PutCacheIn
	content io.Reader
}

// Resolve keeps the body (huma.Resolver).
func (u *cacheUpload) Resolve(ctx huma.Context) []error {
	u.content = ctx.BodyReader()
	return nil
}

// describe writes a description and the content as multipart/mixed (RFC 2046, 5.1).
func describe(m *multipart.Writer, description any, r io.Reader) error {
	part, err := m.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/json"}})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(part).Encode(description); err != nil {
		return err
	}
	if part, err = m.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/octet-stream"}}); err != nil {
		return err
	}
	_, err = io.Copy(part, r)
	return errors.Join(err, closeIf(err == nil, m))
}

// closeIf ends m with its last boundary, which says that it is whole.
func closeIf(whole bool, m *multipart.Writer) error {
	if !whole {
		return nil
	}
	return m.Close()
}
