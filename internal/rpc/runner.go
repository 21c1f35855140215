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

func (r runner) PutArtifact(ctx context.Context, l sallyport.LeaseRef, name string, content io.Reader) (sallyport.Artifact, error) {
	var a sallyport.Artifact
	resp, err := send(ctx, r.c, PutArtifact, NamedIn{leased(l), name}, content)
	if err != nil {
		return a, err
	}
	defer drain(resp.Body)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&a); err != nil {
		return a, r.c.broken(ctx, err)
	}
	return a, nil
}

// GetArtifact reads a multipart answer: the description, then the content.
func (r runner) GetArtifact(ctx context.Context, l sallyport.LeaseRef, name string) (sallyport.Artifact, io.ReadCloser, error) {
	var a sallyport.Artifact
	resp, err := send(ctx, r.c, FetchArtifact, NamedIn{leased(l), name}, nil)
	if err != nil {
		return a, nil, err
	}
	content, err := parts(resp.Header.Get("Content-Type"), resp.Body, &a)
	if err != nil {
		resp.Body.Close()
		return a, nil, r.c.broken(ctx, err)
	}
	return a, &stream{ctx: ctx, c: r.c, r: content, Closer: resp.Body}, nil
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

func (r runner) Artifacts(ctx context.Context, l sallyport.LeaseRef) ([]sallyport.Artifact, error) {
	return list(ctx, r.c, RunArtifacts, leased(l))
}

func (r runner) Finish(ctx context.Context, l sallyport.LeaseRef, result sallyport.JobResult) error {
	return tell(ctx, r.c, Finish, FinishIn{Leased: leased(l), Body: result})
}
