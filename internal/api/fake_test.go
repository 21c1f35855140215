package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/api"
	"github.com/sallyport-ci/sallyport/internal/rpc"
)

const goodToken = "good-token"

var alice = sallyport.Principal{Kind: sallyport.Person, ID: "1", Name: "alice", Admin: true}

// fake is all services and the yard: it notes every call and makes up results.
type fake struct {
	mu      sync.Mutex
	calls   map[string][]any // arguments without ctx, by "Service.Method"
	results map[string][]any
	as      map[string]sallyport.Principal
	denied  []string
	err     error
	on      map[string]func(ctx context.Context, args []any) ([]any, error) // replaces what is made up
}

func (f *fake) note(ctx context.Context, name string, args ...any) ([]any, bool, error) {
	f.mu.Lock()
	f.calls[name], f.as[name] = args, sallyport.PrincipalFrom(ctx)
	on, err := f.on[name], f.err
	f.mu.Unlock()
	if on != nil {
		out, err := on(ctx, args)
		return out, true, err
	}
	return nil, false, err
}

// when replaces what is made up for a call.
func (f *fake) when(name string, do func(ctx context.Context, args []any) ([]any, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on[name] = do
}

func (f *fake) denials() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.denied
}

func (f *fake) keep(name string, out ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.results[name] = out
}

func r0(ctx context.Context, f *fake, name string, args ...any) error {
	_, _, err := f.note(ctx, name, args...)
	return err
}

func r1[A any](ctx context.Context, f *fake, name string, args ...any) (a A, err error) {
	out, set, err := f.note(ctx, name, args...)
	if set {
		a, _ = out[0].(A)
		return a, err
	}
	if err == nil {
		a = made[A](1)
		f.keep(name, a)
	}
	return a, err
}

func r2[A, B any](ctx context.Context, f *fake, name string, args ...any) (a A, b B, err error) {
	out, set, err := f.note(ctx, name, args...)
	if set {
		a, _ = out[0].(A)
		b, _ = out[1].(B)
		return a, b, err
	}
	if err == nil {
		a, b = made[A](1), made[B](40)
		f.keep(name, a, b)
	}
	return a, b, err
}

func made[T any](seed int) T {
	var v T
	fill(reflect.ValueOf(&v).Elem(), &seed, 0)
	return v
}

// fill gives v a value in which no part is zero, where the wire carries it.
func fill(v reflect.Value, seed *int, depth int) {
	*seed++
	n := *seed%90 + 1
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(1_700_000_000+int64(n), 5000).UTC()
		return
	case *time.Duration:
		*x = time.Duration(n%40+1) * time.Second
		return
	case *json.RawMessage:
		*x = json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))
		return
	case *[]byte:
		*x = fmt.Appendf(nil, `{"bytes":%d}`, n)
		return
	case *fs.FileMode:
		*x = 0o644
		return
	case *io.ReadCloser:
		*x = io.NopCloser(strings.NewReader(fmt.Sprintf("content %d", n)))
		return
	case *sallyport.Secret:
		*x = sallyport.NewSecret(fmt.Appendf(nil, "secret %d", n))
		return
	case *io.Reader:
		*x = strings.NewReader(fmt.Sprintf("content %d", n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		if strings.HasSuffix(v.Type().Name(), "ID") {
			v.SetString(fmt.Sprintf("00000000-0000-7000-8000-%012d", n))
			return
		}
		v.SetString(fmt.Sprintf("text-%d <&>", n))
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(int64(n))
	case reflect.Uint32:
		v.SetUint(uint64(n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		if depth < 6 {
			v.Set(reflect.MakeSlice(v.Type(), 2, 2))
			for i := range 2 {
				fill(v.Index(i), seed, depth+1)
			}
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, seed, depth+1)
		fill(value, seed, depth+1)
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		if depth < 6 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), seed, depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), seed, depth+1)
		}
	default:
		panic("no value for " + v.Type().String())
	}
}

type (
	fakeProjects    struct{ *fake }
	fakeRuns        struct{ *fake }
	fakeArtifacts   struct{ *fake }
	fakeGates       struct{ *fake }
	fakeDeployments struct{ *fake }
	fakeAudit       struct{ *fake }
	fakeAccess      struct{ *fake }
	fakeInstance    struct{ *fake }
	fakeIssuers     struct{ *fake }
	fakeYard        struct{ *fake }
	fakeCaches      struct{ *fake }
	fakeDoors       struct{ *fake }
	fakeSecrets     struct{ *fake }
	fakeRights      struct{ *fake }
	fakeApprovals   struct{ *fake }
	fakeStops       struct{ *fake }
)

func (f *fake) services() sallyport.Services {
	return sallyport.Services{Projects: fakeProjects{f}, Runs: fakeRuns{f}, Artifacts: fakeArtifacts{f}, Gates: fakeGates{f},
		Deployments: fakeDeployments{f}, Audit: fakeAudit{f}, Access: fakeAccess{f}, Instance: fakeInstance{f}, Caches: fakeCaches{f}, Doors: fakeDoors{f}, Secrets: fakeSecrets{f}, Rights: fakeRights{f}, Approvals: fakeApprovals{f}, Stops: fakeStops{f}, Issuers: fakeIssuers{f}}
}

func (f fakeProjects) CreateProject(ctx context.Context, name, branch string) (sallyport.Project, error) {
	return r1[sallyport.Project](ctx, f.fake, "Projects.CreateProject", name, branch)
}
func (f fakeProjects) Project(ctx context.Context, nameOrID string) (sallyport.Project, error) {
	return r1[sallyport.Project](ctx, f.fake, "Projects.Project", nameOrID)
}
func (f fakeProjects) Projects(ctx context.Context) ([]sallyport.Project, error) {
	return r1[[]sallyport.Project](ctx, f.fake, "Projects.Projects")
}
func (f fakeProjects) Pushing(ctx context.Context, p sallyport.ProjectID, u []sallyport.RefUpdate) error {
	return r0(ctx, f.fake, "Projects.Pushing", p, u)
}
func (f fakeProjects) Pushed(ctx context.Context, p sallyport.ProjectID, u []sallyport.RefUpdate) ([]sallyport.Push, error) {
	return r1[[]sallyport.Push](ctx, f.fake, "Projects.Pushed", p, u)
}
func (f fakeProjects) Reading(ctx context.Context, p sallyport.ProjectID) error {
	return r0(ctx, f.fake, "Projects.Reading", p)
}
func (f fakeProjects) Deliver(ctx context.Context, p sallyport.ProjectID, d sallyport.Delivery) ([]sallyport.Run, error) {
	return r1[[]sallyport.Run](ctx, f.fake, "Projects.Deliver", p, d)
}

func (f fakeRuns) Runs(ctx context.Context, flt sallyport.RunFilter) ([]sallyport.Run, error) {
	return r1[[]sallyport.Run](ctx, f.fake, "Runs.Runs", flt)
}
func (f fakeRuns) Run(ctx context.Context, id sallyport.RunID) (sallyport.Run, []sallyport.Job, error) {
	return r2[sallyport.Run, []sallyport.Job](ctx, f.fake, "Runs.Run", id)
}
func (f fakeRuns) Plan(ctx context.Context, id sallyport.RunID) (*sallyport.Plan, error) {
	return r1[*sallyport.Plan](ctx, f.fake, "Runs.Plan", id)
}
func (f fakeRuns) Trace(ctx context.Context, j sallyport.JobID) (sallyport.Trace, error) {
	return r1[sallyport.Trace](ctx, f.fake, "Runs.Trace", j)
}
func (f fakeRuns) Log(ctx context.Context, j sallyport.JobID, offset int64, max int, wait time.Duration) ([]byte, bool, error) {
	return r2[[]byte, bool](ctx, f.fake, "Runs.Log", j, offset, max, wait)
}
func (f fakeRuns) Cancel(ctx context.Context, id sallyport.RunID) error {
	return r0(ctx, f.fake, "Runs.Cancel", id)
}
func (f fakeRuns) Dispatch(ctx context.Context, p sallyport.ProjectID, workflow, ref string, inputs []byte) ([]sallyport.Run, error) {
	return r1[[]sallyport.Run](ctx, f.fake, "Runs.Dispatch", p, workflow, ref, inputs)
}
func (f fakeRuns) WaitChange(ctx context.Context, id sallyport.RunID) error {
	return r0(ctx, f.fake, "Runs.WaitChange", id)
}

func (f fakeArtifacts) Artifacts(ctx context.Context, id sallyport.RunID) ([]sallyport.Artifact, error) {
	return r1[[]sallyport.Artifact](ctx, f.fake, "Artifacts.Artifacts", id)
}
func (f fakeArtifacts) Artifact(ctx context.Context, id sallyport.ArtifactID) (sallyport.Artifact, error) {
	return r1[sallyport.Artifact](ctx, f.fake, "Artifacts.Artifact", id)
}
func (f fakeArtifacts) FindArtifact(ctx context.Context, run sallyport.RunID, name string) (sallyport.Artifact, error) {
	return r1[sallyport.Artifact](ctx, f.fake, "Artifacts.FindArtifact", run, name)
}
func (f fakeArtifacts) Open(ctx context.Context, id sallyport.ArtifactID) (io.ReadCloser, error) {
	return r1[io.ReadCloser](ctx, f.fake, "Artifacts.Open", id)
}
func (f fakeArtifacts) Statements(ctx context.Context, p sallyport.ProjectID, d sallyport.Digest) ([]sallyport.Statement, error) {
	return r1[[]sallyport.Statement](ctx, f.fake, "Artifacts.Statements", p, d)
}
func (f fakeArtifacts) Bundle(ctx context.Context, id sallyport.StatementID) ([]byte, error) {
	return r1[[]byte](ctx, f.fake, "Artifacts.Bundle", id)
}
func (f fakeArtifacts) Verify(ctx context.Context, p sallyport.ProjectID, d sallyport.Digest) ([]sallyport.Checked, error) {
	return r1[[]sallyport.Checked](ctx, f.fake, "Artifacts.Verify", p, d)
}

func (f fakeGates) Verdicts(ctx context.Context, p sallyport.ProjectID, page sallyport.Page) ([]sallyport.Verdict, error) {
	return r1[[]sallyport.Verdict](ctx, f.fake, "Gates.Verdicts", p, page)
}
func (f fakeGates) Verdict(ctx context.Context, id sallyport.VerdictID) (sallyport.Verdict, error) {
	return r1[sallyport.Verdict](ctx, f.fake, "Gates.Verdict", id)
}
func (f fakeGates) Replay(ctx context.Context, id sallyport.VerdictID, policy string) (sallyport.Verdict, error) {
	return r1[sallyport.Verdict](ctx, f.fake, "Gates.Replay", id, policy)
}
func (f fakeGates) Judge(ctx context.Context, a sallyport.ArtifactID, environment string) (sallyport.Verdict, error) {
	return r1[sallyport.Verdict](ctx, f.fake, "Gates.Judge", a, environment)
}

func (f fakeDeployments) Deployments(ctx context.Context, p sallyport.ProjectID, e string, page sallyport.Page) ([]sallyport.Deployment, error) {
	return r1[[]sallyport.Deployment](ctx, f.fake, "Deployments.Deployments", p, e, page)
}
func (f fakeDeployments) Deployment(ctx context.Context, id sallyport.DeploymentID) (sallyport.Deployment, error) {
	return r1[sallyport.Deployment](ctx, f.fake, "Deployments.Deployment", id)
}
func (f fakeDeployments) Environments(ctx context.Context, p sallyport.ProjectID) ([]sallyport.Environment, error) {
	return r1[[]sallyport.Environment](ctx, f.fake, "Deployments.Environments", p)
}
func (f fakeDeployments) Deploy(ctx context.Context, a sallyport.ArtifactID, e string) (sallyport.Deployment, error) {
	return r1[sallyport.Deployment](ctx, f.fake, "Deployments.Deploy", a, e)
}
func (f fakeDeployments) Rollback(ctx context.Context, p sallyport.ProjectID, e, reason string) (sallyport.Deployment, error) {
	return r1[sallyport.Deployment](ctx, f.fake, "Deployments.Rollback", p, e, reason)
}
func (f fakeDeployments) Health(ctx context.Context, id sallyport.DeploymentID) (sallyport.Health, sallyport.Traffic, error) {
	return r2[sallyport.Health, sallyport.Traffic](ctx, f.fake, "Deployments.Health", id)
}
func (f fakeDeployments) Output(ctx context.Context, id sallyport.DeploymentID) ([]byte, error) {
	return r1[[]byte](ctx, f.fake, "Deployments.Output", id)
}

func (f fakeRights) Accounts(ctx context.Context) ([]sallyport.Account, error) {
	return r1[[]sallyport.Account](ctx, f.fake, "Rights.Accounts")
}
func (f fakeRights) AddAccount(ctx context.Context, a sallyport.Account) (sallyport.Account, error) {
	return r1[sallyport.Account](ctx, f.fake, "Rights.AddAccount", a)
}
func (f fakeRights) RemoveAccount(ctx context.Context, id string) error {
	return r0(ctx, f.fake, "Rights.RemoveAccount", id)
}
func (f fakeRights) LinkLogin(ctx context.Context, id, subject string) error {
	return r0(ctx, f.fake, "Rights.LinkLogin", id, subject)
}
func (f fakeRights) AccessRules(ctx context.Context) (sallyport.AccessRules, error) {
	return r1[sallyport.AccessRules](ctx, f.fake, "Rights.AccessRules")
}
func (f fakeRights) WhoCan(ctx context.Context, action, resource string) ([]sallyport.Holder, error) {
	return r1[[]sallyport.Holder](ctx, f.fake, "Rights.WhoCan", action, resource)
}
func (f fakeRights) CompareRules(ctx context.Context, source string) (sallyport.AccessChange, error) {
	return r1[sallyport.AccessChange](ctx, f.fake, "Rights.CompareRules", source)
}
func (f fakeRights) SetRules(ctx context.Context, source string) (sallyport.AccessChange, error) {
	return r1[sallyport.AccessChange](ctx, f.fake, "Rights.SetRules", source)
}

func (f fakeAudit) Records(ctx context.Context, flt sallyport.AuditFilter) ([]sallyport.AuditRecord, error) {
	return r1[[]sallyport.AuditRecord](ctx, f.fake, "Audit.Records", flt)
}
func (f fakeAudit) VerifyAudit(ctx context.Context) (sallyport.AuditReport, error) {
	return r1[sallyport.AuditReport](ctx, f.fake, "Audit.VerifyAudit")
}

// Authenticate knows one token; other credentials are told apart by what they are called with.
func (f fakeAccess) Authenticate(ctx context.Context, kind, value string) (sallyport.Principal, error) {
	switch value {
	case goodToken:
		return alice, nil
	case "bob":
		return sallyport.Principal{Kind: sallyport.Bot, ID: "2", Name: "bob"}, nil
	case "bad":
		return sallyport.Principal{}, sallyport.Errorf(sallyport.CodeDenied, "no such token")
	case "storm":
		return sallyport.Principal{}, sallyport.Errorf(sallyport.CodeUnavailable, "the database is down")
	}
	return r1[sallyport.Principal](ctx, f.fake, "Access.Authenticate", kind, value)
}
func (f fakeAccess) Login(ctx context.Context, value string) (string, time.Time, error) {
	return r2[string, time.Time](ctx, f.fake, "Access.Login", value)
}
func (f fakeAccess) Logout(ctx context.Context, session string) error {
	return r0(ctx, f.fake, "Access.Logout", session)
}
func (f fakeAccess) CreateToken(ctx context.Context, name, kind string, p sallyport.Principal, ttl time.Duration) (string, sallyport.Token, error) {
	return r2[string, sallyport.Token](ctx, f.fake, "Access.CreateToken", name, kind, p, ttl)
}
func (f fakeAccess) Tokens(ctx context.Context) ([]sallyport.Token, error) {
	return r1[[]sallyport.Token](ctx, f.fake, "Access.Tokens")
}
func (f fakeAccess) RevokeToken(ctx context.Context, id sallyport.TokenID) error {
	return r0(ctx, f.fake, "Access.RevokeToken", id)
}
func (f fakeAccess) Denied(ctx context.Context, what, why string) {
	_ = r0(ctx, f.fake, "Access.Denied", what, why)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied = append(f.denied, what+": "+why)
}

func (f fakeInstance) TrustRoot(ctx context.Context) ([]byte, error) {
	return r1[[]byte](ctx, f.fake, "Instance.TrustRoot")
}
func (f fakeInstance) Identity(ctx context.Context, project, workflow, ref string) (string, string, error) {
	return r2[string, string](ctx, f.fake, "Instance.Identity", project, workflow, ref)
}
func (f fakeInstance) TokenIssuer(ctx context.Context) (string, []byte, error) {
	return r2[string, []byte](ctx, f.fake, "Instance.TokenIssuer")
}
func (f fakeIssuers) IssuerStatus(ctx context.Context) (sallyport.IssuerStatus, error) {
	return r1[sallyport.IssuerStatus](ctx, f.fake, "Issuers.IssuerStatus")
}
func (f fakeIssuers) RotateIssuer(ctx context.Context, in sallyport.RotateIssuer) (sallyport.IssuerStatus, error) {
	return r1[sallyport.IssuerStatus](ctx, f.fake, "Issuers.RotateIssuer", in)
}
func (f fakeIssuers) IssuedTokens(ctx context.Context, j sallyport.JobID) ([]sallyport.IssuedToken, error) {
	return r1[[]sallyport.IssuedToken](ctx, f.fake, "Issuers.IssuedTokens", j)
}
func (f fakeInstance) Health(ctx context.Context) (sallyport.InstanceHealth, error) {
	return r1[sallyport.InstanceHealth](ctx, f.fake, "Instance.Health")
}

func (f fakeYard) Lease(ctx context.Context, ask sallyport.LeaseRequest) (*sallyport.Lease, error) {
	return r1[*sallyport.Lease](ctx, f.fake, "Yard.Lease", ask)
}
func (f fakeYard) Heartbeat(ctx context.Context, l sallyport.LeaseRef) (sallyport.Order, error) {
	return r1[sallyport.Order](ctx, f.fake, "Yard.Heartbeat", l)
}
func (f fakeYard) AppendLog(ctx context.Context, l sallyport.LeaseRef, offset int64, data []byte) (int64, error) {
	// data is the caller's again when this returns
	return r1[int64](ctx, f.fake, "Yard.AppendLog", l, offset, append([]byte(nil), data...))
}
func (f fakeYard) Report(ctx context.Context, l sallyport.LeaseRef, r sallyport.JobReport) error {
	return r0(ctx, f.fake, "Yard.Report", l, r)
}
func (f fakeYard) Image(ctx context.Context, l sallyport.LeaseRef, reference string) (sallyport.Image, error) {
	return r1[sallyport.Image](ctx, f.fake, "Yard.Image", l, reference)
}
func (f fakeYard) ImageLayer(ctx context.Context, l sallyport.LeaseRef, reference string, d sallyport.Digest) (io.ReadCloser, error) {
	return r1[io.ReadCloser](ctx, f.fake, "Yard.ImageLayer", l, reference, d)
}
func (f fakeYard) Source(ctx context.Context, l sallyport.LeaseRef, depth int) (io.ReadCloser, error) {
	return r1[io.ReadCloser](ctx, f.fake, "Yard.Source", l, depth)
}
func (f fakeYard) Action(ctx context.Context, l sallyport.LeaseRef, tree sallyport.Digest) (io.ReadCloser, error) {
	return r1[io.ReadCloser](ctx, f.fake, "Yard.Action", l, tree)
}
func (f fakeYard) PutArtifact(ctx context.Context, l sallyport.LeaseRef, name string, content io.Reader) (sallyport.Artifact, error) {
	b, err := io.ReadAll(content)
	if err != nil {
		return sallyport.Artifact{}, err
	}
	return r1[sallyport.Artifact](ctx, f.fake, "Yard.PutArtifact", l, name, string(b))
}
func (f fakeYard) GetArtifact(ctx context.Context, l sallyport.LeaseRef, run sallyport.RunID, name string) (sallyport.Artifact, io.ReadCloser, error) {
	return r2[sallyport.Artifact, io.ReadCloser](ctx, f.fake, "Yard.GetArtifact", l, run, name)
}
func (f fakeYard) Artifacts(ctx context.Context, l sallyport.LeaseRef, run sallyport.RunID) ([]sallyport.Artifact, error) {
	return r1[[]sallyport.Artifact](ctx, f.fake, "Yard.Artifacts", l, run)
}
func (f fakeYard) DeleteArtifact(ctx context.Context, l sallyport.LeaseRef, name string) (sallyport.Artifact, error) {
	return r1[sallyport.Artifact](ctx, f.fake, "Yard.DeleteArtifact", l, name)
}
func (f fakeYard) FindCache(ctx context.Context, l sallyport.LeaseRef, q sallyport.CacheQuery) (sallyport.CacheEntry, error) {
	return r1[sallyport.CacheEntry](ctx, f.fake, "Yard.FindCache", l, q)
}
func (f fakeYard) GetCache(ctx context.Context, l sallyport.LeaseRef, id sallyport.CacheID) (sallyport.CacheEntry, io.ReadCloser, error) {
	return r2[sallyport.CacheEntry, io.ReadCloser](ctx, f.fake, "Yard.GetCache", l, id)
}
func (f fakeYard) PutCache(ctx context.Context, l sallyport.LeaseRef, key, version string, content io.Reader) (sallyport.CacheEntry, error) {
	b, err := io.ReadAll(content)
	if err != nil {
		return sallyport.CacheEntry{}, err
	}
	return r1[sallyport.CacheEntry](ctx, f.fake, "Yard.PutCache", l, key, version, string(b))
}
func (f fakeYard) IDToken(ctx context.Context, l sallyport.LeaseRef, audience string) (string, error) {
	return r1[string](ctx, f.fake, "Yard.IDToken", l, audience)
}
func (f fakeYard) Attest(ctx context.Context, l sallyport.LeaseRef, c sallyport.Claim) (sallyport.Statement, error) {
	return r1[sallyport.Statement](ctx, f.fake, "Yard.Attest", l, c)
}
func (f fakeYard) Record(ctx context.Context, l sallyport.LeaseRef, seq int, r sallyport.DoorRecord) error {
	return r0(ctx, f.fake, "Yard.Record", l, seq, r)
}
func (f fakeYard) Finish(ctx context.Context, l sallyport.LeaseRef, r sallyport.JobResult) error {
	return r0(ctx, f.fake, "Yard.Finish", l, r)
}

// site is a server under test, on a loopback port and on a unix socket.
type site struct {
	*fake
	handler http.Handler
	server  *http.Server
	url     string
}

func start(t testing.TB, change ...func(*api.Config)) *site {
	t.Helper()
	f := &fake{calls: map[string][]any{}, results: map[string][]any{}, as: map[string]sallyport.Principal{},
		on: map[string]func(context.Context, []any) ([]any, error){}}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	c := api.Config{Services: f.services(), Yard: fakeYard{f}, Git: noGit{}, Log: log, Version: "test"}
	for _, change := range change {
		change(&c)
	}
	h, err := api.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{fake: f, handler: h, server: api.Server(h, log)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + listener.Addr().String()
	go s.server.Serve(listener)
	t.Cleanup(func() { s.server.Close() })
	return s
}

// socket serves h on a unix socket and returns its path.
func socket(t testing.TB, h http.Handler) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := api.Server(h, slog.New(slog.DiscardHandler))
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return path
}

func (s *site) client(t testing.TB) *rpc.Client { return dial(t, s.url, goodToken) }

func dial(t testing.TB, url, token string) *rpc.Client {
	t.Helper()
	c, err := rpc.Dial(rpc.Config{URL: url, Token: sallyport.NewSecret([]byte(token))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (s *site) got(name string) []any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[name]
}

type noGit struct{}

func (noGit) Serve(w http.ResponseWriter, _ *http.Request, _ sallyport.ProjectID, _ string, _ func([]sallyport.RefUpdate) error, _ func([]sallyport.RefUpdate) string) {
	http.Error(w, "no git here", http.StatusNotImplemented)
}

func (f fakeCaches) Caches(ctx context.Context, p sallyport.ProjectID, page sallyport.Page) ([]sallyport.CacheEntry, error) {
	return r1[[]sallyport.CacheEntry](ctx, f.fake, "Caches.Caches", p, page)
}
func (f fakeCaches) CacheUses(ctx context.Context, id sallyport.RunID) ([]sallyport.CacheUse, error) {
	return r1[[]sallyport.CacheUse](ctx, f.fake, "Caches.CacheUses", id)
}
func (f fakeCaches) DeleteCache(ctx context.Context, id sallyport.CacheID) (sallyport.CacheEntry, error) {
	return r1[sallyport.CacheEntry](ctx, f.fake, "Caches.DeleteCache", id)
}

func (f fakeDoors) Doors(ctx context.Context, id sallyport.RunID) ([]sallyport.Door, error) {
	return r1[[]sallyport.Door](ctx, f.fake, "Doors.Doors", id)
}
func (f fakeDoors) EgressRules(ctx context.Context, p sallyport.ProjectID) (sallyport.EgressRules, error) {
	return r1[sallyport.EgressRules](ctx, f.fake, "Doors.EgressRules", p)
}
func (f fakeDoors) Learn(ctx context.Context, p sallyport.ProjectID, runs int, file []byte) (sallyport.EgressProposal, error) {
	return r1[sallyport.EgressProposal](ctx, f.fake, "Doors.Learn", p, runs, file)
}

func (f fakeSecrets) Secrets(ctx context.Context, p sallyport.ProjectID) ([]sallyport.SecretEntry, error) {
	return r1[[]sallyport.SecretEntry](ctx, f.fake, "Secrets.Secrets", p)
}
func (f fakeSecrets) SetSecret(ctx context.Context, p sallyport.ProjectID, environment, name string, value sallyport.Secret) (sallyport.SecretEntry, error) {
	return r1[sallyport.SecretEntry](ctx, f.fake, "Secrets.SetSecret", p, environment, name, string(value.Reveal()))
}
func (f fakeSecrets) DeleteSecret(ctx context.Context, p sallyport.ProjectID, environment, name string) error {
	return r0(ctx, f.fake, "Secrets.DeleteSecret", p, environment, name)
}
func (f fakeSecrets) Rotations(ctx context.Context, p sallyport.ProjectID) ([]sallyport.RotationStatus, error) {
	return r1[[]sallyport.RotationStatus](ctx, f.fake, "Secrets.Rotations", p)
}
func (f fakeSecrets) SetRotation(ctx context.Context, p sallyport.ProjectID, environment, name string, r sallyport.RotationRule, admin sallyport.Secret) (sallyport.RotationRule, error) {
	return r1[sallyport.RotationRule](ctx, f.fake, "Secrets.SetRotation", p, environment, name, r, string(admin.Reveal()))
}
func (f fakeSecrets) Rotate(ctx context.Context, p sallyport.ProjectID, environment, name string) (sallyport.Rotation, error) {
	return r1[sallyport.Rotation](ctx, f.fake, "Secrets.Rotate", p, environment, name)
}
func (f fakeSecrets) Leak(ctx context.Context, p sallyport.ProjectID, environment, name, where string) (sallyport.Incident, error) {
	return r1[sallyport.Incident](ctx, f.fake, "Secrets.Leak", p, environment, name, where)
}

func (f fakeApprovals) Ask(ctx context.Context, a sallyport.AccessAsk) (sallyport.RequestStatus, error) {
	return r1[sallyport.RequestStatus](ctx, f.fake, "Approvals.Ask", a)
}
func (f fakeApprovals) Requests(ctx context.Context, p sallyport.ProjectID, open bool, page sallyport.Page) ([]sallyport.RequestStatus, error) {
	return r1[[]sallyport.RequestStatus](ctx, f.fake, "Approvals.Requests", p, open, page)
}
func (f fakeApprovals) Request(ctx context.Context, id sallyport.RequestID) (sallyport.RequestStatus, error) {
	return r1[sallyport.RequestStatus](ctx, f.fake, "Approvals.Request", id)
}
func (f fakeApprovals) Vote(ctx context.Context, id sallyport.RequestID, v sallyport.Vote) (sallyport.RequestStatus, error) {
	return r1[sallyport.RequestStatus](ctx, f.fake, "Approvals.Vote", id, v)
}
func (f fakeApprovals) Withdraw(ctx context.Context, id sallyport.RequestID) error {
	return r0(ctx, f.fake, "Approvals.Withdraw", id)
}
func (f fakeApprovals) Activate(ctx context.Context, id sallyport.RequestID) (sallyport.GrantStatus, error) {
	return r1[sallyport.GrantStatus](ctx, f.fake, "Approvals.Activate", id)
}
func (f fakeApprovals) Grants(ctx context.Context, page sallyport.Page) ([]sallyport.GrantStatus, error) {
	return r1[[]sallyport.GrantStatus](ctx, f.fake, "Approvals.Grants", page)
}
func (f fakeApprovals) Revoke(ctx context.Context, id sallyport.GrantID, why string) error {
	return r0(ctx, f.fake, "Approvals.Revoke", id, why)
}

func (f fakeStops) Stop(ctx context.Context, kind sallyport.StopKind, name, why string) (sallyport.StopReport, error) {
	return r1[sallyport.StopReport](ctx, f.fake, "Stops.Stop", kind, name, why)
}
func (f fakeStops) Lift(ctx context.Context, kind sallyport.StopKind, name, why string) (sallyport.Stop, error) {
	return r1[sallyport.Stop](ctx, f.fake, "Stops.Lift", kind, name, why)
}
func (f fakeStops) Stops(ctx context.Context) ([]sallyport.Stop, error) {
	return r1[[]sallyport.Stop](ctx, f.fake, "Stops.Stops")
}
