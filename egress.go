package sallyport

import (
	"slices"
	"time"
)

// EgressLevel says how far a job may reach out of its room.
type EgressLevel string

const (
	EgressNone       EgressLevel = "none"       // the room has a loopback and nothing else
	EgressListed     EgressLevel = "listed"     // the hosts of the rules
	EgressRegistries EgressLevel = "registries" // these, and package registries through the firewall
)

// EgressRules are what jobs of a project may reach, as the protected branch
// declared it in .sallyport/egress.yaml when the run was planned. What no rule
// lets through is refused.
type EgressRules struct {
	Level EgressLevel `json:"level"`
	// Observe lets everything through that is not refused for the runner's own safety, and
	// marks the evidence: it is for finding out which rules a project needs.
	Observe bool         `json:"observe,omitempty"`
	Rules   []EgressRule `json:"rules,omitempty"`
	// Credentials are lent at the door: the job names them, the door puts them in.
	Credentials []CredentialRule `json:"credentials,omitempty"`
	Packages    PackageRules     `json:"packages,omitzero"`
	// File is what the rules were read from; zero when the project declares none and the
	// level is the installation's.
	File   PlanFile `json:"file,omitzero"`
	Commit string   `json:"commit,omitempty"` // of the protected branch
	// Broken says why the rules cannot be read; the level is none then.
	Broken string `json:"broken,omitempty"`
}

// EgressRule lets jobs reach a host.
type EgressRule struct {
	// Host is an exact DNS name in lower case and ASCII, or "*." before one for the names
	// below it; never wider than a registrable domain.
	Host  string `json:"host"`
	Ports []int  `json:"ports,omitempty"` // none: 443
	// Methods and Paths narrow what may be asked over HTTP, to do which the door reads the
	// requests. A path is a prefix that ends at a slash or at the path's end. None: all.
	Methods []string `json:"methods,omitempty"`
	Paths   []string `json:"paths,omitempty"`
	Jobs    []string `json:"jobs,omitempty"` // keys of the run's own workflow; none: all
	Pos     Pos      `json:"pos,omitzero"`
}

// PackageRules say which package versions the firewall lets through. The zero
// value holds every version back that is younger than the firewall's own age.
type PackageRules struct {
	// MinAgeHours is how old a version must be by its registry's word. Nil: 72.
	MinAgeHours *int           `json:"minAgeHours,omitempty"`
	Allow       []PackageAllow `json:"allow,omitempty"`
	// Locked are the versions that the lock files of the protected branch name, with their
	// checksums. Somebody merged them: they may be young, and nothing else may carry their name and version.
	Locked []LockedPackage `json:"locked,omitempty"`
}

// PackageAllow lets a package through that the firewall would hold back. One without a
// version lifts age, likeness of names and withdrawal; only one with a version lifts an advisory
// that calls the package malicious. A checksum that does not fit is never allowed.
type PackageAllow struct {
	// PURL is a package URL, such as pkg:npm/%40scope/name@1.2.3; without a version it is any,
	// and "/*" at its end is every package below that path.
	PURL   string    `json:"purl"`
	Reason string    `json:"reason"`
	Until  time.Time `json:"until,omitzero"` // zero: for ever
	Pos    Pos       `json:"pos,omitzero"`
}

// LockedPackage is a package version in a lock file.
type LockedPackage struct {
	PURL string `json:"purl"`
	// Sums are its checksums as the lock file writes them: h1:… of go.sum, ALGORITHM-BASE64 of
	// npm, sha256:HEX of pip and cargo. The bytes must fit one.
	Sums []string `json:"sums,omitempty"`
}

// CredentialKind says how a credential is put into what a job sends.
type CredentialKind string

const (
	CredentialBearer   CredentialKind = "bearer"   // Authorization: Bearer
	CredentialBasic    CredentialKind = "basic"    // Authorization: Basic, with User
	CredentialHeader   CredentialKind = "header"   // the header named Header
	CredentialRegistry CredentialKind = "registry" // the token exchange of OCI registries, with User
	CredentialAWS      CredentialKind = "aws"      // Signature Version 4, with User as the access key's id
	CredentialPostgres CredentialKind = "postgres" // PostgreSQL's own authentication, with User
)

// CredentialRule lends one secret to jobs for one use. The value reaches the
// door of the job's room and no further.
type CredentialRule struct {
	Name   string         `json:"name"`   // unique among the rules
	Secret string         `json:"secret"` // the secret that holds the value
	Kind   CredentialKind `json:"kind"`
	User   string         `json:"user,omitempty"`
	Header string         `json:"header,omitempty"`
	// Host, Port, Methods and Paths say where the value may be used; Host is exact. No methods: GET and HEAD.
	Host    string   `json:"host"`
	Port    int      `json:"port,omitempty"` // 0: 443, of PostgreSQL 5432
	Methods []string `json:"methods,omitempty"`
	Paths   []string `json:"paths,omitempty"`
	// Region and Service are those of the AWS signature, Database and Role those that a PostgreSQL
	// session is held to.
	Region   string `json:"region,omitempty"`
	Service  string `json:"service,omitempty"`
	Database string `json:"database,omitempty"`
	Role     string `json:"role,omitempty"`
	// Jobs and Environments narrow who may use it; none: every job of a protected ref.
	Jobs         []string `json:"jobs,omitempty"`
	Environments []string `json:"environments,omitempty"`
	// Expose hands the value itself to the job, as the secrets context does on GitHub. It is recorded.
	Expose bool `json:"expose,omitempty"`
	Pos    Pos  `json:"pos,omitzero"`
}

// EgressDecision is what the door did with a connection or a request.
type EgressDecision string

const (
	EgressAllowed  EgressDecision = "allowed"
	EgressDenied   EgressDecision = "denied"
	EgressObserved EgressDecision = "observed" // no rule allows it; observe mode let it through
)

// Flow is something that a job sent to its door: a connection, a question for a name,
// a packet of another protocol. Flows of the same kind are counted together.
type Flow struct {
	Step     int            `json:"step,omitempty"` // that ran at the time, from 1; 0: none or several
	Protocol string         `json:"protocol"`       // dns, tls, http, postgres, tcp, udp, icmp, ip
	Host     string         `json:"host,omitempty"` // the name that the job asked for
	Address  string         `json:"address,omitempty"`
	Port     int            `json:"port,omitempty"`
	Decision EgressDecision `json:"decision"`
	Reason   string         `json:"reason,omitempty"` // of a denial: one of a fixed vocabulary
	Rule     string         `json:"rule,omitempty"`   // FILE:LINE of what allowed it
	Count    int            `json:"count"`
	Sent     int64          `json:"sent,omitempty"` // bytes, seen from the job
	Received int64          `json:"received,omitempty"`
	First    time.Time      `json:"first"`
	Last     time.Time      `json:"last"`
}

// PackageFetch is a package version that a job asked of a registry.
type PackageFetch struct {
	Step     int            `json:"step,omitempty"`
	PURL     string         `json:"purl"`
	Digest   Digest         `json:"digest,omitempty"` // of the bytes that reached the job
	Source   string         `json:"source"`           // the registry's base URL, without credentials
	Size     int64          `json:"size,omitempty"`
	Cached   bool           `json:"cached,omitempty"`
	Decision EgressDecision `json:"decision"`
	Reason   string         `json:"reason,omitempty"` // why it was refused, in words
	At       time.Time      `json:"at"`
}

// MethodExpose is the method of the use that says that a rule gave the job the value itself.
const MethodExpose = "EXPOSE"

// CredentialUse is one use of a lent credential.
type CredentialUse struct {
	Step       int            `json:"step,omitempty"`
	Credential string         `json:"credential"`
	Host       string         `json:"host"`
	Method     string         `json:"method"`             // of HTTP; else the protocol's word, such as CONNECT
	Path       Digest         `json:"path,omitempty"`     // of the path and query, which may be private
	Status     int            `json:"status,omitempty"`   // of HTTP
	Scrubbed   int            `json:"scrubbed,omitempty"` // times that the answer held the value
	Decision   EgressDecision `json:"decision"`
	Reason     string         `json:"reason,omitempty"`
	Sent       int64          `json:"sent,omitempty"`
	Received   int64          `json:"received,omitempty"`
	At         time.Time      `json:"at"`
}

// DoorRecord is what a door has seen, as the runner hands it in. It is the
// runner's word, not the job's.
type DoorRecord struct {
	Flows    []Flow          `json:"flows,omitempty"`
	Packages []PackageFetch  `json:"packages,omitempty"`
	Uses     []CredentialUse `json:"uses,omitempty"`
	// Lost counts what was not kept, because there was too much.
	Lost int `json:"lost,omitempty"`
}

// Add puts what another record says after what is there; flows of the same kind are counted together.
func (r *DoorRecord) Add(o DoorRecord) {
	for _, f := range o.Flows {
		i := slices.IndexFunc(r.Flows, func(have Flow) bool { return have.same(f) })
		if i < 0 {
			r.Flows = append(r.Flows, f)
			continue
		}
		have := &r.Flows[i]
		have.Count, have.Sent, have.Received = have.Count+f.Count, have.Sent+f.Sent, have.Received+f.Received
		if f.First.Before(have.First) {
			have.First = f.First
		}
		if f.Last.After(have.Last) {
			have.Last = f.Last
		}
	}
	r.Packages = append(r.Packages, o.Packages...)
	r.Uses = append(r.Uses, o.Uses...)
	r.Lost += o.Lost
}

// same reports whether two flows are of the same kind.
func (f Flow) same(o Flow) bool {
	f.Count, f.Sent, f.Received, f.First, f.Last = o.Count, o.Sent, o.Received, o.First, o.Last
	return f == o
}

// DoorEntry is a record as it is kept.
type DoorEntry struct {
	Run     RunID      `json:"run"`
	Job     JobID      `json:"job"`
	Attempt int        `json:"attempt"`
	Seq     int        `json:"seq"`
	Record  DoorRecord `json:"record"`
	At      time.Time  `json:"at"`
}

// Door is what passed the door of one job's room.
type Door struct {
	Job     JobID       `json:"job"`
	Name    string      `json:"name"` // of the job
	Key     string      `json:"key"`  // by which rules know it
	Attempt int         `json:"attempt"`
	Rules   EgressRules `json:"rules"` // that it was held to
	Record  DoorRecord  `json:"record"`
}

// EgressProposal is a change of the rules that recorded flows would need.
type EgressProposal struct {
	File  string   `json:"file"` // the file as it would be
	Diff  string   `json:"diff"` // unified; empty when nothing is needed
	Runs  int      `json:"runs"` // that were looked at
	Notes []string `json:"notes,omitempty"`
}
