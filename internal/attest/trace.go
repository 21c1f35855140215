package attest

import (
	"time"

	"github.com/sallyport-ci/sallyport"
)

// monitorType says how to read the entries of our runtime traces.
const monitorType = "https://github.com/sallyport-ci/sallyport/monitor/v1"

// maxTraced is how many programs, hosts and changed files a statement names one by one; the
// whole record is kept beside it, by digest.
const maxTraced = 500

// TraceInput is what a runtime trace says about a job. All of it was seen by the runner
// from outside the job's room.
type TraceInput struct {
	Instance   Instance
	Invocation string // Instance.Job
	Trace      sallyport.Trace
	Record     sallyport.Digest // of the whole trace
	// Matches tells whether what was checked out is the tree of the commit that it claims to be.
	Matches  bool
	Flows    []sallyport.Flow
	Started  time.Time
	Finished time.Time
}

type runtimeTrace struct {
	Monitor struct {
		Type   string      `json:"type"`
		Policy tracePolicy `json:"tracePolicy"`
	} `json:"monitor"`
	Process struct {
		Host  string `json:"hostID"`
		Type  string `json:"type"`
		Event string `json:"event"`
	} `json:"monitoredProcess"`
	Log struct {
		Process []traceProcess `json:"process"`
		Network []traceNetwork `json:"network,omitempty"`
		Files   []Resource     `json:"fileAccess,omitempty"`
	} `json:"monitorLog"`
	Metadata struct {
		Started  string `json:"buildStartedOn,omitempty"`
		Finished string `json:"buildFinishedOn,omitempty"`
	} `json:"metadata"`
	// Extension fields, as the predicate's parsing rules allow them.
	Record Resource     `json:"sallyportRecord"`
	Source *traceSource `json:"sallyportSource,omitempty"`
}

type tracePolicy struct {
	Methods []string        `json:"methods"`
	NotSeen []sallyport.Gap `json:"notSeen,omitempty"`
	Lost    int             `json:"lost"` // that the record does not hold
	Omitted int             `json:"omitted"`
}

type traceProcess struct {
	Binary    string            `json:"processBinary"`
	Digest    map[string]string `json:"digest,omitempty"`
	Starts    int               `json:"starts"`
	Steps     []int             `json:"steps,omitempty"`
	Arguments []string          `json:"argumentDigests,omitempty"`
}

type traceNetwork struct {
	IP       string `json:"ip,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	Port     int    `json:"port,omitempty"`
	Protocol string `json:"protocol,omitempty"`
	Decision string `json:"decision"`
	Count    int    `json:"count"`
}

type traceSource struct {
	Commit  string `json:"commit"`
	Tree    string `json:"tree"`
	Matches bool   `json:"matchesCommit"`
	Files   int    `json:"files"`
	Changed int    `json:"changed"` // tracked files that are named in fileAccess, or omitted there
}

// RuntimeTrace returns a statement of in-toto's runtime trace v0.2 about what a job made:
// which programs ran, which hosts it met, which files of the source were changed. CodeInvalid when
// there is nothing to speak of.
func RuntimeTrace(subjects []Subject, in TraceInput) ([]byte, error) {
	if in.Invocation == "" || in.Record == "" {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the runtime trace needs an invocation and a record")
	}
	var p runtimeTrace
	t := in.Trace
	p.Monitor.Type = monitorType
	p.Monitor.Policy = tracePolicy{Methods: t.Methods, NotSeen: t.NotSeen, Lost: t.Lost}
	p.Process.Host, p.Process.Type, p.Process.Event = in.Instance.Issuer(), BuildType, in.Invocation
	p.Log.Process = []traceProcess{}
	for _, x := range capped(&p, t.Programs) {
		e := traceProcess{Binary: x.Path, Starts: x.Starts, Steps: x.Steps}
		if x.Digest != "" {
			e.Digest = SHA256(x.Digest)
		}
		for _, a := range x.Arguments {
			e.Arguments = append(e.Arguments, a.Hex())
		}
		p.Log.Process = append(p.Log.Process, e)
	}
	for _, x := range capped(&p, in.Flows) {
		transport := "tcp"
		switch x.Protocol {
		case "dns", "udp":
			transport = "udp"
		case "icmp", "ip":
			transport = x.Protocol
		}
		p.Log.Network = append(p.Log.Network, traceNetwork{
			IP: x.Address, Hostname: x.Host, Port: x.Port, Protocol: transport, Decision: string(x.Decision), Count: x.Count})
	}
	for _, x := range capped(&p, t.Changes) {
		p.Log.Files = append(p.Log.Files, Resource{Name: x.Path, Annotations: map[string]string{"change": x.How, "artifact": x.Artifact}})
	}
	p.Metadata.Started, p.Metadata.Finished = timestampText(in.Started), timestampText(in.Finished)
	p.Record = Resource{Name: "trace", Digest: SHA256(in.Record), MediaType: "application/json"}
	if s := t.Source; s != nil {
		p.Source = &traceSource{Commit: s.Commit, Tree: s.Tree, Matches: in.Matches, Files: s.Files, Changed: len(t.Changes)}
	}
	return Statement(subjects, sallyport.PredicateTrace, p)
}

func capped[T any](p *runtimeTrace, list []T) []T {
	if len(list) > maxTraced {
		p.Monitor.Policy.Omitted += len(list) - maxTraced
		list = list[:maxTraced]
	}
	return list
}
