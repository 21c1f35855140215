package api

import (
	"context"
	"io"
	"mime/multipart"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/rpc"
)

// The largest artifact that is taken from a runner; the engine's limit, which
// counts the content alone, is lower.
const maxUpload = 16 << 30

// yard serves the runner protocol.
func (s *server) yard() {
	y := s.Yard
	answer(s, rpc.Lease, func(ctx context.Context, in *rpc.LeaseIn) (rpc.LeaseOut, error) {
		waiting, over, cancel := patience(ctx, rpc.MaxWait)
		defer cancel()
		lease, err := y.Lease(waiting, in.Body)
		if err != nil && over() {
			err = nil
		}
		return rpc.LeaseOut{Lease: lease}, err
	})
	answer(s, rpc.Heartbeat, func(ctx context.Context, in *rpc.Leased) (rpc.OrderOut, error) {
		order, err := y.Heartbeat(ctx, in.Ref())
		return rpc.OrderOut{Order: order}, err
	})
	answer(s, rpc.AppendLog, func(ctx context.Context, in *rpc.AppendLogIn) (rpc.LogEnd, error) {
		end, err := y.AppendLog(ctx, in.Ref(), in.Offset, in.RawBody)
		if sallyport.ErrorCode(err) == sallyport.CodeConflict {
			err = rpc.WithLogEnd(err, end)
		}
		return rpc.LogEnd{End: end}, err
	})
	list(s, rpc.RunArtifacts, func(ctx context.Context, in *rpc.ArtifactsIn) ([]sallyport.Artifact, error) {
		return y.Artifacts(ctx, in.Ref(), in.Run)
	})
	answer(s, rpc.DropArtifact, func(ctx context.Context, in *rpc.NamedIn) (sallyport.Artifact, error) {
		return y.DeleteArtifact(ctx, in.Ref(), in.Name)
	})
	answer(s, rpc.IDToken, func(ctx context.Context, in *rpc.IDTokenIn) (rpc.IDTokenOut, error) {
		token, err := y.IDToken(ctx, in.Ref(), in.Body.Audience)
		return rpc.IDTokenOut{Token: token}, err
	})
	answer(s, rpc.Attest, func(ctx context.Context, in *rpc.AttestIn) (rpc.AttestOut, error) {
		st, err := y.Attest(ctx, in.Ref(), in.Body)
		return rpc.AttestOut{Statement: st, Bundle: st.Bundle}, err
	})
	obey(s, rpc.Report, func(ctx context.Context, in *rpc.ReportIn) error { return y.Report(ctx, in.Ref(), in.Body) })
	obey(s, rpc.Finish, func(ctx context.Context, in *rpc.FinishIn) error { return y.Finish(ctx, in.Ref(), in.Body) })
	obey(s, rpc.Record, func(ctx context.Context, in *rpc.RecordIn) error { return y.Record(ctx, in.Ref(), in.Seq, in.Body) })
	answer(s, rpc.Image, func(ctx context.Context, in *rpc.ImageIn) (sallyport.Image, error) {
		return y.Image(ctx, in.Ref(), in.Body.Reference)
	})
	s.source()
	s.imageLayer()
	s.putArtifact()
	s.fetchArtifact()
	answer(s, rpc.FindCache, func(ctx context.Context, in *rpc.FindCacheIn) (sallyport.CacheEntry, error) {
		return y.FindCache(ctx, in.Ref(), in.Body)
	})
	s.putCache()
	s.fetchCache()
}

// source serves what a job is made of: the repository and the actions of others.
func (s *server) source() {
	const kind = "application/x-tar"
	huma.Register(s.huma, operation(s, rpc.Source, kind), func(ctx context.Context, in *rpc.SourceIn) (*download, error) {
		r, err := s.Yard.Source(ctx, in.Ref(), in.Depth)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return s.stream(ctx, kind, r), nil
	})
	huma.Register(s.huma, operation(s, rpc.Action, kind), func(ctx context.Context, in *rpc.ActionIn) (*download, error) {
		r, err := s.Yard.Action(ctx, in.Ref(), in.Tree)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return s.stream(ctx, kind, r), nil
	})
}

func (s *server) imageLayer() {
	const kind = "application/octet-stream"
	huma.Register(s.huma, operation(s, rpc.ImageLayer, kind), func(ctx context.Context, in *rpc.ImageLayerIn) (*download, error) {
		r, err := s.Yard.ImageLayer(ctx, in.Ref(), in.Reference, in.Digest)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return s.stream(ctx, kind, r), nil
	})
}

// uploading describes a call whose body is content.
func uploading[In, Out any](s *server, c rpc.Call[In, Out], what string) huma.Operation {
	op := operation(s, c, "")
	op.RequestBody = &huma.RequestBody{Required: true, Description: what,
		Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: binary()}}}
	return op
}

func (s *server) putCache() {
	huma.Register(s.huma, uploading(s, rpc.PutCache, "The content"), func(ctx context.Context, in *cacheUpload) (*body[sallyport.CacheEntry], error) {
		c, err := s.Yard.PutCache(ctx, in.Ref(), in.Key, in.Version, &bounded{in.content, maxUpload})
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return &body[sallyport.CacheEntry]{c}, nil
	})
}

func (s *server) putArtifact() {
	huma.Register(s.huma, uploading(s, rpc.PutArtifact, "A tar of the files"), func(ctx context.Context, in *upload) (*body[sallyport.Artifact], error) {
		a, err := s.Yard.PutArtifact(ctx, in.Ref(), in.Name, &bounded{in.content, maxUpload})
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return &body[sallyport.Artifact]{a}, nil
	})
}

func (s *server) fetchArtifact() {
	op := operation(s, rpc.FetchArtifact, "multipart/mixed")
	huma.Register(s.huma, op, func(ctx context.Context, in *rpc.FetchArtifactIn) (*download, error) {
		a, r, err := s.Yard.GetArtifact(ctx, in.Ref(), in.Run, in.Name)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return s.described(ctx, a, r), nil
	})
}

func (s *server) fetchCache() {
	op := operation(s, rpc.FetchCache, "multipart/mixed")
	huma.Register(s.huma, op, func(ctx context.Context, in *rpc.GetCacheIn) (*download, error) {
		c, r, err := s.Yard.GetCache(ctx, in.Ref(), in.Cache)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return s.described(ctx, c, r), nil
	})
}

// described answers with a description of content and the content, and closes r.
func (s *server) described(ctx context.Context, description any, r io.ReadCloser) *download {
	var to io.Writer
	m := multipart.NewWriter(writerFunc(func(b []byte) (int, error) { return to.Write(b) }))
	return s.written(ctx, "multipart/mixed; boundary="+m.Boundary(), r, func(w io.Writer) error {
		to = w
		return describe(m, description, r)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// bounded fails, rather than ends, when more is read than may be.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, sallyport.Errorf(sallyport.CodeInvalid, "the upload is larger than %d bytes", int64(maxUpload))
	}
	return n, err
}
