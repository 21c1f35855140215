package rpc

import (
	"net/http"

	"github.com/sallyport-ci/sallyport"
)

// Leased proves that the caller holds the lease of a job. Its token travels in a
// header: addresses end up in logs.
type Leased struct {
	Job   sallyport.JobID `path:"job" maxLength:"36"`
	Token string          `header:"Sallyport-Lease" required:"true" maxLength:"256"`
}

// Ref returns the lease.
func (l Leased) Ref() sallyport.LeaseRef { return sallyport.LeaseRef{Job: l.Job, Token: l.Token} }

// The arguments of a runner's calls.
type (
	LeaseIn struct {
		Body sallyport.LeaseRequest
	}
	AppendLogIn struct {
		Leased
		Offset  int64  `query:"offset" minimum:"0"`
		RawBody []byte `contentType:"application/x-ndjson"`
	}
	ReportIn struct {
		Leased
		Body sallyport.JobReport
	}
	SourceIn struct {
		Leased
		Depth int `query:"depth" minimum:"0" doc:"Commits of history; 0 means all"`
	}
	ActionIn struct {
		Leased
		Tree sallyport.Digest `query:"tree" required:"true" maxLength:"80" doc:"Digest of the action's tree"`
	}
	NamedIn struct {
		Leased
		Name string `query:"name" required:"true" maxLength:"256"`
	}
	ArtifactsIn struct {
		Leased
		Run sallyport.RunID `query:"run" maxLength:"36" doc:"Another run of the project"`
	}
	FetchArtifactIn struct {
		ArtifactsIn
		Name string `query:"name" required:"true" maxLength:"256"`
	}
	FindCacheIn struct {
		Leased
		Body sallyport.CacheQuery
	}
	GetCacheIn struct {
		Leased
		Cache sallyport.CacheID `path:"cache" maxLength:"36"`
	}
	PutCacheIn struct {
		Leased
		Key     string `query:"key" required:"true" maxLength:"4096"`
		Version string `query:"version" required:"true" maxLength:"256"`
	}
	ImageIn struct {
		Leased
		Body struct {
			Reference string `json:"reference" maxLength:"512"`
		}
	}
	ImageLayerIn struct {
		Leased
		Reference string           `query:"reference" required:"true" maxLength:"512"`
		Digest    sallyport.Digest `query:"digest" required:"true" maxLength:"80"`
	}
	IDTokenIn struct {
		Leased
		Body struct {
			Audience string `json:"audience" maxLength:"512"`
		}
	}
	AttestIn struct {
		Leased
		Body sallyport.Claim
	}
	RecordIn struct {
		Leased
		Seq  int `query:"seq" minimum:"1" required:"true" doc:"Counts the records of the lease from 1"`
		Body sallyport.DoorRecord
	}
	FinishIn struct {
		Leased
		Body sallyport.JobResult
	}
)

// LeaseOut is a lease, or null when there was no job.
type LeaseOut struct {
	Lease *sallyport.Lease `json:"lease,omitempty"`
}

// OrderOut is the answer to a heartbeat.
type OrderOut struct {
	Order sallyport.Order `json:"order"`
}

// IDTokenOut is an ID token.
type IDTokenOut struct {
	Token string `json:"token"`
}

// AttestOut is a statement with its bundle.
type AttestOut struct {
	Statement sallyport.Statement `json:"statement"`
	Bundle    []byte              `json:"bundle"`
}

// LogEnd is where a log ends.
type LogEnd struct {
	End int64 `json:"end"`
}

// The runner protocol, in the order of sallyport.Yard.
var (
	Lease         = yard[LeaseIn, LeaseOut]("lease", "/lease", "Wait for a job, at most 50 s")
	Heartbeat     = yard[Leased, OrderOut]("heartbeat", "/jobs/{job}/heartbeat", "Extend a lease")
	AppendLog     = yard[AppendLogIn, LogEnd]("append-log", "/jobs/{job}/log", "Add to a job's log at an offset")
	Report        = yard[ReportIn, None]("report", "/jobs/{job}/report", "Tell how the steps stand")
	Source        = Call[SourceIn, Bytes]{ID: "source", Method: http.MethodGet, Path: YardPrefix + "/jobs/{job}/source", Summary: "Fetch the run's commit as a tar of a bare repository", Repeatable: true}
	Action        = Call[ActionIn, Bytes]{ID: "action", Method: http.MethodGet, Path: YardPrefix + "/jobs/{job}/action", Summary: "Fetch an action that the job's plan uses, as a tar of its files", Repeatable: true}
	PutArtifact   = Call[NamedIn, sallyport.Artifact]{ID: "put-artifact", Method: http.MethodPut, Path: YardPrefix + "/jobs/{job}/artifact", Summary: "Hand in an artifact as a tar of its files"}
	FetchArtifact = Call[FetchArtifactIn, Bytes]{ID: "fetch-artifact", Method: http.MethodGet, Path: YardPrefix + "/jobs/{job}/artifact", Summary: "Fetch an artifact of the same run or another, described and as a tar of its files", Repeatable: true}
	RunArtifacts  = Call[ArtifactsIn, List[sallyport.Artifact]]{ID: "run-artifacts", Method: http.MethodGet, Path: YardPrefix + "/jobs/{job}/artifacts", Summary: "List the artifacts of the same run or another", Repeatable: true}
	DropArtifact  = Call[NamedIn, sallyport.Artifact]{ID: "drop-artifact", Method: http.MethodDelete, Path: YardPrefix + "/jobs/{job}/artifact", Summary: "Delete an artifact of the same run"}
	FindCache     = yard[FindCacheIn, sallyport.CacheEntry]("find-cache", "/jobs/{job}/cache", "Find the cache entry that the job may restore")
	FetchCache    = Call[GetCacheIn, Bytes]{ID: "fetch-cache", Method: http.MethodGet, Path: YardPrefix + "/jobs/{job}/caches/{cache}", Summary: "Restore a cache entry, described and with its content", Repeatable: true}
	PutCache      = Call[PutCacheIn, sallyport.CacheEntry]{ID: "put-cache", Method: http.MethodPut, Path: YardPrefix + "/jobs/{job}/cache", Summary: "Save a cache entry"}
	Image         = yard[ImageIn, sallyport.Image]("image", "/jobs/{job}/image", "Find what an image reference names")
	ImageLayer    = Call[ImageLayerIn, Bytes]{ID: "image-layer", Method: http.MethodGet, Path: YardPrefix + "/jobs/{job}/image-layer", Summary: "Fetch a layer of an image", Repeatable: true}
	IDToken       = yard[IDTokenIn, IDTokenOut]("id-token", "/jobs/{job}/id-token", "Issue an ID token to a job")
	Attest        = Call[AttestIn, AttestOut]{ID: "attest", Method: http.MethodPost, Path: YardPrefix + "/jobs/{job}/attest", Summary: "Sign what a job says of content", MaxBody: 4 << 20, Lenient: true}
	Record        = Call[RecordIn, None]{ID: "record-door", Method: http.MethodPost, Path: YardPrefix + "/jobs/{job}/door", Summary: "Hand in what the door of a job's room saw", MaxBody: 4 << 20, Lenient: true, Repeatable: true}
	Finish        = yard[FinishIn, None]("finish", "/jobs/{job}/finish", "Hand in the result of a job")
)
