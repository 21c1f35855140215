package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	checkTime      = 5 * time.Second // a healthy release answers its health path at once
	maxCheckHeader = 64 << 10
	maxCheckBody   = 64 << 10 // read, so that a release that breaks off is noticed
)

// Check asks the instance over a new connection. A redirect is not an answer.
func (p *Process) Check(ctx context.Context, d sallyport.Deployment) (sallyport.Health, error) {
	if _, err := p.find(d.ID); err != nil {
		return sallyport.Health{}, err
	}
	target, err := url.Parse(d.Spec.Health.Path)
	if err != nil || !strings.HasPrefix(target.Path, "/") || target.Host != "" {
		return sallyport.Health{}, sallyport.Errorf(sallyport.CodeInvalid, "health path %.100q is not a path", d.Spec.Health.Path).
			WithHint("write for example /healthz")
	}
	in, err := p.instance(d.ID)
	if err != nil {
		return sallyport.Health{}, err
	}
	began := time.Now()
	health := sallyport.Health{At: began.UTC()}
	if !in.Running {
		health.Why = "the release does not run: " + in.Exit
		return health, nil
	}
	why := p.ask(ctx, d.ID, target)
	if ctx.Err() != nil {
		return sallyport.Health{}, context.Cause(ctx)
	}
	health.OK, health.Why, health.Latency = why == "", why, time.Since(began)
	return health, nil
}

// ask sends one request and says what was wrong with the answer, "" for nothing.
func (p *Process) ask(ctx context.Context, id sallyport.DeploymentID, target *url.URL) string {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	target.Scheme, target.Host = "http", "localhost"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return "the health path cannot be asked"
	}
	req.Header.Set("User-Agent", "sallyport-health")
	transport := &http.Transport{
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxCheckHeader,
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dialSocket(ctx, p.socket(id)) },
	}
	resp, err := transport.RoundTrip(req)
	if err == nil {
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxCheckBody))
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("GET %s: no answer within %s", target.EscapedPath(), checkTime)
	case err != nil: // the cause names host paths, and says no more
		return fmt.Sprintf("GET %s: no answer", target.EscapedPath())
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return fmt.Sprintf("GET %s: status %d", target.EscapedPath(), resp.StatusCode)
	default:
		return ""
	}
}
