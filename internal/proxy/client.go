package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// ErrNotRunning is returned when no proxy answers at the control socket.
var ErrNotRunning = errors.New("the proxy does not run")

var errHangs = sallyport.Errorf(sallyport.CodeUnavailable, "the proxy does not answer").
	WithHint("look into its log; end the process, and it is started again")

// Client speaks to the proxy of one directory. Its methods may be called from
// several goroutines, and repeated.
type Client struct{ socket string }

// NewClient returns a client of the proxy whose Config.Dir is dir.
func NewClient(dir string) *Client { return &Client{socket: filepath.Join(dir, socketFile)} }

// Status describes the proxy.
func (c *Client) Status(ctx context.Context) (Status, error) {
	a, err := c.do(ctx, request{Op: opStatus})
	if err != nil || a.Status == nil {
		return Status{}, incomplete(err)
	}
	return *a.Status, nil
}

// Set makes r the route of its key and returns it with its address. A Set of
// what is already so changes nothing, counters included; any other starts the
// counters of the route's backends anew.
func (c *Client) Set(ctx context.Context, r Route) (Route, error) {
	a, err := c.do(ctx, request{Op: opSet, Route: &r})
	if err != nil || a.Route == nil {
		return Route{}, incomplete(err)
	}
	return *a.Route, nil
}

// Drain takes the deployment off its route and waits until no request uses it,
// at most wait. It returns how many requests are still in flight.
func (c *Client) Drain(ctx context.Context, id sallyport.DeploymentID, wait time.Duration) (int64, error) {
	a, err := c.do(ctx, request{Op: opDrain, Deployment: id, Wait: min(wait, maxDrain)})
	return a.InFlight, err
}

// Report returns what the proxy saw of a deployment, zero for one that it does not know.
func (c *Client) Report(ctx context.Context, id sallyport.DeploymentID) (Report, error) {
	a, err := c.do(ctx, request{Op: opReport, Deployment: id})
	if err != nil || a.Report == nil {
		return Report{}, incomplete(err)
	}
	return *a.Report, nil
}

// Hold returns nil when the proxy has ended, and ctx's cause when that ends first.
func (c *Client) Hold(ctx context.Context) error {
	_, err := c.do(ctx, request{Op: opHold})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// Stop ends the proxy; requests in flight are finished within its own time.
func (c *Client) Stop(ctx context.Context) error {
	_, err := c.do(ctx, request{Op: opStop})
	return err
}

func incomplete(err error) error {
	if err == nil {
		return errors.New("the proxy's answer is not complete")
	}
	return err
}

func (c *Client) do(ctx context.Context, q request) (reply, error) {
	line, err := json.Marshal(q)
	if err != nil {
		return reply{}, fmt.Errorf("encode request: %w", err)
	}
	if len(line) >= maxRequest {
		return reply{}, sallyport.Errorf(sallyport.CodeInvalid, "the request to the proxy is larger than %d bytes", maxRequest)
	}
	if q.Op != opHold { // a proxy that hangs must not hang its caller
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, q.Wait+requestTime, errHangs)
		defer cancel()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		if ctx.Err() != nil {
			return reply{}, context.Cause(ctx)
		}
		return reply{}, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return reply{}, c.broken(ctx, err)
	}
	got, err := bufio.NewReader(io.LimitReader(conn, maxAnswer)).ReadBytes('\n')
	if err != nil {
		return reply{}, c.broken(ctx, err)
	}
	var a reply
	if err := json.Unmarshal(got, &a); err != nil {
		return reply{}, fmt.Errorf("decode the proxy's answer: %w", err)
	}
	if a.Error != nil {
		return reply{}, &sallyport.Error{Code: a.Error.Code, Message: a.Error.Message, Hint: a.Error.Hint}
	}
	return a, nil
}

func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("ask the proxy: %w", err)
}

// Configured reports whether routes were ever set for the proxy of dir, so
// that it ought to run.
func Configured(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, routesFile))
	return err == nil
}
