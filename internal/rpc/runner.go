package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"

	"github.com/sallyport-ci/sallyport"
)

// Yard returns the runner protocol of the server.
func (c *Client) Yard() sallyport.Yard { return runner{c} }

type runner struct{ c *Client }

func leased(l sallyport.LeaseRef) Leased { return Leased{Job: l.Job, Token: l.Token} }

func (r runner) Lease(ctx context.Context, ask sallyport.LeaseRequest) (*sallyport.Lease, error) {
	out, err := do(ctx, r.c, Lease, LeaseIn{ask})
	return out.Lease, err
}

func (r runner) Heartbeat(ctx context.Context, l sallyport.LeaseRef) (sallyport.Order, error) {
	out, err := do(ctx, r.c, Heartbeat, leased(l))
	return out.Order, err
}

func (r runner) AppendLog(ctx context.Context, l sallyport.LeaseRef, offset int64, data []byte) (int64, error) {
	out, err := do(ctx, r.c, AppendLog, AppendLogIn{Leased: leased(l), Offset: offset, RawBody: data})
	if at, ok := errors.AsType[*logEndError](err); ok {
		return at.end, at.error
	}
	return out.End, err
}

func (r runner) Report(ctx context.Context, l sallyport.LeaseRef, report sallyport.JobReport) error {
	return tell(ctx, r.c, Report, ReportIn{Leased: leased(l), Body: report})
}

func (r runner) Source(ctx context.Context, l sallyport.LeaseRef, depth int) (io.ReadCloser, error) {
	return open(ctx, r.c, Source, SourceIn{Leased: leased(l), Depth: depth})
}

func (r runner) Action(ctx context.Context, l sallyport.LeaseRef, tree sallyport.Digest) (io.ReadCloser, error) {
	return open(ctx, r.c, Action, ActionIn{leased(l), tree})
}

func (r runner) PutArtifact(ctx context.Context, l sallyport.LeaseRef, name string, content io.Reader) (sallyport.Artifact, error) {
	return put(ctx, r.c, PutArtifact, NamedIn{leased(l), name}, content)
}

func (r runner) GetArtifact(ctx context.Context, l sallyport.LeaseRef, run sallyport.RunID, name string) (a sallyport.Artifact, content io.ReadCloser, err error) {
	content, err = fetch(ctx, r.c, FetchArtifact, FetchArtifactIn{ArtifactsIn{leased(l), run}, name}, &a)
	return a, content, err
}

func (r runner) DeleteArtifact(ctx context.Context, l sallyport.LeaseRef, name string) (sallyport.Artifact, error) {
	return do(ctx, r.c, DropArtifact, NamedIn{leased(l), name})
}

func (r runner) FindCache(ctx context.Context, l sallyport.LeaseRef, q sallyport.CacheQuery) (sallyport.CacheEntry, error) {
	return do(ctx, r.c, FindCache, FindCacheIn{leased(l), q})
}

func (r runner) GetCache(ctx context.Context, l sallyport.LeaseRef, id sallyport.CacheID) (c sallyport.CacheEntry, content io.ReadCloser, err error) {
	content, err = fetch(ctx, r.c, FetchCache, GetCacheIn{leased(l), id}, &c)
	return c, content, err
}

func (r runner) PutCache(ctx context.Context, l sallyport.LeaseRef, key, version string, content io.Reader) (sallyport.CacheEntry, error) {
	return put(ctx, r.c, PutCache, PutCacheIn{leased(l), key, version}, content)
}

func (r runner) IDToken(ctx context.Context, l sallyport.LeaseRef, audience string) (string, error) {
	in := IDTokenIn{Leased: leased(l)}
	in.Body.Audience = audience
	out, err := do(ctx, r.c, IDToken, in)
	return out.Token, err
}

func (r runner) Attest(ctx context.Context, l sallyport.LeaseRef, claim sallyport.Claim) (sallyport.Statement, error) {
	out, err := do(ctx, r.c, Attest, AttestIn{leased(l), claim})
	out.Statement.Bundle = out.Bundle
	return out.Statement, err
}

// put sends content and decodes what became of it.
func put[In, Out any](ctx context.Context, c *Client, call Call[In, Out], in In, content io.Reader) (out Out, err error) {
	resp, err := send(ctx, c, call, in, content)
	if err != nil {
		return out, err
	}
	defer drain(resp.Body)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil {
		return out, c.broken(ctx, err)
	}
	return out, nil
}

// fetch reads a multipart answer: the description, then the content.
func fetch[In any](ctx context.Context, c *Client, call Call[In, Bytes], in In, description any) (io.ReadCloser, error) {
	resp, err := send(ctx, c, call, in, nil)
	if err != nil {
		return nil, err
	}
	content, err := parts(resp.Header.Get("Content-Type"), resp.Body, description)
	if err != nil {
		resp.Body.Close()
		return nil, c.broken(ctx, err)
	}
	return &stream{ctx: ctx, c: c, r: content, Closer: resp.Body}, nil
}

// parts decodes the first part of a multipart body and returns the second.
func parts(contentType string, body io.Reader, first any) (io.Reader, error) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/mixed" {
		return nil, fmt.Errorf("unexpected content type %q", contentType)
	}
	m := multipart.NewReader(body, params["boundary"])
	p, err := m.NextRawPart()
	if err != nil {
		return nil, fmt.Errorf("first part: %w", err)
	}
	if err := json.NewDecoder(io.LimitReader(p, maxAnswer)).Decode(first); err != nil {
		return nil, fmt.Errorf("first part: %w", err)
	}
	p, err = m.NextRawPart()
	if err != nil {
		return nil, fmt.Errorf("second part: %w", err)
	}
	return p, nil
}

func (r runner) Artifacts(ctx context.Context, l sallyport.LeaseRef, run sallyport.RunID) ([]sallyport.Artifact, error) {
	return list(ctx, r.c, RunArtifacts, ArtifactsIn{leased(l), run})
}

func (r runner) Image(ctx context.Context, l sallyport.LeaseRef, reference string) (sallyport.Image, error) {
	in := ImageIn{Leased: leased(l)}
	in.Body.Reference = reference
	return do(ctx, r.c, Image, in)
}

func (r runner) ImageLayer(ctx context.Context, l sallyport.LeaseRef, reference string, d sallyport.Digest) (io.ReadCloser, error) {
	return open(ctx, r.c, ImageLayer, ImageLayerIn{Leased: leased(l), Reference: reference, Digest: d})
}

func (r runner) Record(ctx context.Context, l sallyport.LeaseRef, seq int, record sallyport.DoorRecord) error {
	return tell(ctx, r.c, Record, RecordIn{Leased: leased(l), Seq: seq, Body: record})
}

func (r runner) Finish(ctx context.Context, l sallyport.LeaseRef, result sallyport.JobResult) error {
	return tell(ctx, r.c, Finish, FinishIn{Leased: leased(l), Body: result})
}
