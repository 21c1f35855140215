package runner

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/egress"
	"github.com/sallyport-ci/sallyport/internal/workflow"
	"github.com/sallyport-ci/sallyport/internal/yard/broker"
	"github.com/sallyport-ci/sallyport/internal/yard/door"
	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

// Egress is what a runner has for the doors of its jobs' rooms.
type Egress struct {
	// Dialer reaches what rules allow; nil: one that reaches what is public.
	Dialer *door.Dialer
	// Firewall answers for package registries; nil: jobs reach none.
	Firewall *firewall.Firewall
	// Roots verify upstream servers; nil: the host's.
	Roots *x509.CertPool
}

const (
	// recordEvery is how often what a door has seen is handed in while the job runs.
	recordEvery = time.Minute
	// maxDoorItems bounds each kind of what is kept until it is handed in.
	maxDoorItems = 4096
	// maxDoorLines bounds what the log says of a door: it is a hint, the record is the job's page.
	maxDoorLines = 30
	maxRoots     = 4 << 20
)

// jobDoor is the door of a job's rooms with all that serves at it.
type jobDoor struct {
	job    *job
	door   *door.Door
	broker *broker.Broker
	env    []workflow.Var // by which programs find registries and trust the door
	trust  []byte         // authorities of the rooms' programs; nil: the room's own

	stop context.CancelFunc // of handing in while the job runs
	done chan struct{}      // closed when that has stopped

	send   sync.Mutex // held while a record is handed in
	seq    int
	unsent *sallyport.DoorRecord // the one with number seq, which may have arrived

	mu      sync.Mutex
	pending sallyport.DoorRecord
	told    map[string]bool
}

// openDoor makes the job's door when its rules let anything through.
func (j *job) openDoor(ctx context.Context) error {
	rules := j.lease.Egress
	if rules.Broken != "" {
		j.log.say(0, sallyport.LogWarning, "The job reaches nothing outside its room, for the rules cannot be read: %s", rules.Broken)
		return nil
	}
	if rules.Level != sallyport.EgressListed && rules.Level != sallyport.EgressRegistries {
		return nil
	}
	d := &jobDoor{job: j, told: map[string]bool{}, done: make(chan struct{})}
	cfg := j.runner.cfg.Egress
	var packages *firewall.Job
	if rules.Level == sallyport.EgressRegistries && cfg.Firewall != nil {
		packages = cfg.Firewall.Job(firewall.JobConfig{Rules: rules.Packages, Record: d.fetched, Step: j.runningStep})
		for _, v := range cfg.Firewall.Env() {
			d.env = append(d.env, workflow.Var{Name: v.Name, Value: v.Value})
		}
	}
	fetch := func(host string) http.Handler {
		if packages == nil {
			return nil
		}
		return packages.Handler(host)
	}
	intercept := func(host string) http.Handler {
		var lend http.Handler
		if d.broker != nil {
			lend = d.broker.Intercept(host)
		}
		return fetchOrPublish(fetch(host), lend)
	}
	streams := func(host string, port int) func(net.Conn) {
		if d.broker == nil {
			return nil
		}
		return d.broker.Stream(host, port)
	}
	var err error
	d.door, err = door.Open(door.Config{
		Rules: jobRules{egress.NewMatcher(rules, "")}, Dialer: cfg.Dialer, Intercept: intercept, Streams: streams,
		Notice: d.notice, Step: j.runningStep, Roots: cfg.Roots, Clock: j.runner.cfg.Clock, Log: j.slog,
	})
	if err != nil {
		return fmt.Errorf("open the job's door: %w", err)
	}
	j.door = d
	ctx, d.stop = context.WithCancel(ctx)
	go d.keepHandingIn(ctx)
	if lent := lentOf(j.lease); len(lent) > 0 {
		if d.broker, err = broker.New(broker.Config{
			Lent: lent, Upstream: cfg.Dialer.Transport(cfg.Roots), Dial: cfg.Dialer.DialContext, Record: d.used, Step: j.runningStep, Clock: j.runner.cfg.Clock,
			ServerTLS: d.door.ServerTLS(), Plain: func(host string) http.Handler {
				if h := fetch(host); h != nil { // what is not lent for is refused, whatever else rules say of a registry
					return h
				}
				return d.door.Plain()
			}, Run: string(j.lease.Run.ID),
		}); err != nil {
			return err
		}
	}
	if packages != nil || d.broker != nil || slices.ContainsFunc(rules.Rules, func(r sallyport.EgressRule) bool { return len(r.Methods)+len(r.Paths) > 0 }) {
		if err := d.makeTrusted(); err != nil {
			return err
		}
	}
	if rules.Observe {
		j.log.say(0, sallyport.LogWarning, "The door observes: it lets through what no rule allows, and what the job makes is marked so.")
	}
	return nil
}

// fetchOrPublish serves a host from which packages are fetched, to which credentials are lent, or
// both; nil when neither. What is fetched is judged by the firewall, also where a credential would
// do: only what changes a registry goes by the credential's rule.
func fetchOrPublish(fetch, lend http.Handler) http.Handler {
	switch {
	case fetch == nil:
		return lend
	case lend == nil:
		return fetch
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			fetch.ServeHTTP(w, r)
			return
		}
		lend.ServeHTTP(w, r)
	})
}

// lentOf are the credentials of a lease that have a value.
func lentOf(l *sallyport.Lease) (lent []broker.Lent) {
	for _, c := range l.Egress.Credentials {
		for _, s := range l.Lent {
			if s.Secret == c.Secret {
				lent = append(lent, broker.Lent{Rule: c, Value: sallyport.NewSecret([]byte(s.Value)), Placeholder: s.Placeholder})
			}
		}
	}
	return lent
}

// jobRules is egress.Matcher in the door's words.
type jobRules struct{ *egress.Matcher }

func (m jobRules) Name(host string) door.Answer { return door.Answer(m.Matcher.Name(host)) }
func (m jobRules) Connect(host string, port int) door.Answer {
	return door.Answer(m.Matcher.Connect(host, port))
}
func (m jobRules) Request(host string, port int, method, path string) door.Answer {
	return door.Answer(m.Matcher.Request(host, port, method, path))
}

// bundles are where distributions keep the authorities that programs trust.
var bundles = [...]string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// makeTrusted makes the programs of the job's rooms trust the door, which ends TLS for some hosts.
// Those that have a list of their own are told by the variables that they know.
func (d *jobDoor) makeTrusted() error {
	own, err := d.door.Certificate()
	if err != nil {
		return err
	}
	var roots []byte
	for _, path := range bundles {
		if fi, err := os.Stat(path); err != nil || fi.Size() > maxRoots {
			continue
		}
		if roots, err = os.ReadFile(path); err == nil {
			break
		}
	}
	d.trust = slices.Concat(bytes.TrimRight(roots, "\n"), []byte("\n"), own)
	all, err := d.job.layout.give("authorities.pem", d.trust)
	if err != nil {
		return err
	}
	added, err := d.job.layout.give("door.pem", own)
	if err != nil {
		return err
	}
	for _, name := range []string{"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE"} {
		d.env = append(d.env, workflow.Var{Name: name, Value: all})
	}
	for _, name := range []string{"NODE_EXTRA_CA_CERTS", "DENO_CERT"} { // these add to a list
		d.env = append(d.env, workflow.Var{Name: name, Value: added})
	}
	return nil
}

// opens gives a room the job's door; release is called when the room is gone. A nil door gives nothing.
func (d *jobDoor) opens(spec *sallyport.RoomSpec) (release func()) {
	if d == nil {
		return func() {}
	}
	spec.Uplink, release = d.door.Uplink()
	spec.Trust = d.trust
	return release
}

// variables are defaults of the environment of the job's processes.
func (d *jobDoor) variables() []workflow.Var {
	if d == nil {
		return nil
	}
	return d.env
}

// close ends all connections; the rooms are gone.
func (d *jobDoor) close() {
	if d == nil {
		return
	}
	d.stop()
	<-d.done
	if d.broker != nil {
		d.broker.Close()
	}
	_ = d.door.Close() // never fails
}

// runningStep is the number of the step that runs, 0 when it is none or several.
func (j *job) runningStep() (number int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.steps {
		if s.report.Status != sallyport.StatusInProgress {
			continue
		}
		if number != 0 {
			return 0
		}
		number = s.report.Number
	}
	return number
}

func (d *jobDoor) fetched(p sallyport.PackageFetch) {
	if p.Decision == sallyport.EgressDenied {
		d.tell(p.Step, fmt.Sprintf("The firewall refused %s: %s", p.PURL, p.Reason))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.pending.Packages) >= maxDoorItems {
		d.pending.Lost++
		return
	}
	d.pending.Packages = append(d.pending.Packages, p)
}

func (d *jobDoor) used(u sallyport.CredentialUse) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.pending.Uses) >= maxDoorItems {
		d.pending.Lost++
		return
	}
	d.pending.Uses = append(d.pending.Uses, u)
}

// notice tells in the log what was refused, each host once for each reason, and what to do about it.
func (d *jobDoor) notice(f sallyport.Flow) {
	if line := refusal(f); line != "" {
		d.tell(f.Step, line)
	}
}

// tell says a line in the log once, and not too many of them.
func (d *jobDoor) tell(step int, line string) {
	d.mu.Lock()
	told := d.told[line] || len(d.told) > maxDoorLines
	d.told[line] = true
	last := len(d.told) > maxDoorLines
	d.mu.Unlock()
	switch {
	case told:
	case last:
		d.job.log.say(step, sallyport.LogWarning, "The door refused more; the job's page has all of it.")
	default:
		d.job.log.say(step, sallyport.LogWarning, "%s", line)
	}
}

// refusal is what the log says of a flow, "" for nothing.
func refusal(f sallyport.Flow) string {
	what := f.Host
	if what == "" {
		what = f.Address
	}
	if f.Port != 0 {
		what += fmt.Sprintf(":%d", f.Port)
	}
	const learn = "To allow it: sallyport egress learn"
	if f.Decision == sallyport.EgressObserved {
		return fmt.Sprintf("The door let %s through, which no rule allows (%s). To write the rule: sallyport egress learn", what, f.Reason)
	}
	if f.Protocol == "dns" && (strings.HasSuffix(f.Host, ".arpa") || strings.HasPrefix(f.Host, "_") || !strings.Contains(f.Host, ".")) {
		return "" // what a resolver asks by itself
	}
	why := ""
	switch f.Reason {
	case egress.ReasonHost, egress.ReasonPort, egress.ReasonMethod, egress.ReasonPath:
		return fmt.Sprintf("The door refused %s: %s. %s", what, f.Reason, learn)
	case door.ReasonNoName:
		why = "jobs reach hosts by their names, which rules name; an address can be anybody's"
	case door.ReasonProtocol:
		why = "TCP passes to a host that a rule names, nothing else does"
	case door.ReasonPrivate:
		why = "its address is not public; the operator of the runner may name it with --egress-private"
	case door.ReasonECH:
		why = "the client hides the name that it wants; switch Encrypted ClientHello off"
	case door.ReasonNoSNI, door.ReasonSNI, door.ReasonHostName:
		why = "it was asked for one name and spoken to as another; use the name that you mean, and add a rule for it"
	case door.ReasonTrust:
		why = "the client does not trust the door, which reads requests to this host; let it use the file in SSL_CERT_FILE"
	case door.ReasonFlows, door.ReasonBytes, door.ReasonAsked, door.ReasonNames:
		why = "the job has used up what one may"
	case door.ReasonType, door.ReasonQuestion:
		return "" // nobody wants an answer
	default:
		why = "see the job's page"
	}
	return fmt.Sprintf("The door refused %s %s (%s): %s", f.Protocol, what, f.Reason, why)
}

// handIn hands in what the door has seen since the last time, as one record.
func (d *jobDoor) handIn(ctx context.Context) {
	if d == nil {
		return
	}
	d.send.Lock()
	defer d.send.Unlock()
	for d.unsent != nil || d.next() {
		y := d.job.runner.cfg.Yard
		if err := retry(ctx, func() error { return y.Record(ctx, d.job.lease.Ref, d.seq, *d.unsent) }); err != nil {
			if ctx.Err() == nil {
				d.job.slog.ErrorContext(ctx, "what passed the door was not handed in", "err", err)
			}
			return
		}
		d.unsent = nil
	}
}

// next makes a record of what there is to hand in, if there is any.
func (d *jobDoor) next() bool {
	flows, lost := d.door.Take()
	d.mu.Lock()
	r := d.pending
	d.pending = sallyport.DoorRecord{}
	d.mu.Unlock()
	r.Flows, r.Lost = flows, r.Lost+lost
	if len(r.Flows)+len(r.Packages)+len(r.Uses)+r.Lost == 0 {
		return false
	}
	d.seq++
	d.unsent = &r
	return true
}

// keepHandingIn hands in what the door sees until ctx ends.
func (d *jobDoor) keepHandingIn(ctx context.Context) {
	defer close(d.done)
	tick := time.NewTicker(recordEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.handIn(ctx)
		case <-ctx.Done():
			return
		}
	}
}
