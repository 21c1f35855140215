// Package attest makes what others can check: in-toto statements about
// digests, signed with short-lived certificates, timestamped, logged, and
// packed as Sigstore bundles that an unmodified cosign verifies offline against
// this installation's trusted root.
//
// It is pure: no files, no network, no clock. Keys come as signers from a KMS,
// time is an argument, and the log is an interface. It decides nothing: which
// statement is true, and who may have it signed, is the engine's business.
// Verification is package verify, so that a signer does not link it.
//
// Formats: in-toto Statement v1, SLSA provenance v1 and VSA v1 (SLSA 1.2),
// DSSE v1, RFC 6962 certificate timestamps, RFC 3161 timestamps, Fulcio's
// certificate extensions, Rekor v2 hashedrekord 0.0.2 entries, Sigstore bundle
// v0.3 and trusted root v0.1.
package attest

import (
	"net/url"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// BuildType says how to read the parameters of our provenance: a job of a
// workflow file, as ExternalParameters describes it.
const BuildType = "https://github.com/sallyport-ci/sallyport/build/workflow/v1"

// Instance is the host name of an installation, the root of every name that
// it signs under. It need not resolve: it is a name, not an address.
type Instance string

// ParseInstance checks a host name: at most 200 characters, dot-separated
// labels of a-z, 0-9 and '-'. No port, because log origins cannot carry one.
func ParseInstance(host string) (Instance, error) {
	ok := len(host) <= 200
	for label := range strings.SplitSeq(host, ".") {
		inner := strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
		ok = ok && inner && label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-'
	}
	if !ok {
		return "", sallyport.Errorf(sallyport.CodeInvalid, "instance name %.80q is not a host name", host).
			WithHint("use a name such as ci.example.com: lower-case labels, no port, no path")
	}
	return Instance(host), nil
}

// Issuer is the OIDC issuer that certificates name.
func (i Instance) Issuer() string { return "https://" + string(i) }

// BuildIdentity is the certificate identity of what the control plane says
// about builds of a project's workflow on a ref (its full name).
func (i Instance) BuildIdentity(project, workflow, ref string) string {
	return i.Issuer() + "/" + escape(project) + "/" + escape(workflow) + "@" + escape(ref)
}

// GateIdentity is the certificate identity of verdicts and of what follows from
// them. It is also the verifier id of summaries.
func (i Instance) GateIdentity() string { return i.Issuer() + "/gate" }

// CacheIdentity is the certificate identity of what the control plane says about
// entries of the cache: apart from builds, so that no entry passes for an artifact.
func (i Instance) CacheIdentity() string { return i.Issuer() + "/caches" }

// JobIdentity is the certificate identity of what a job of a project's workflow on a
// ref says: apart from builds, so that no job's word passes for the builder's.
func (i Instance) JobIdentity(project, workflow, ref string) string {
	return i.Issuer() + "/jobs/" + escape(project) + "/" + escape(workflow) + "@" + escape(ref)
}

// JobBuilder is the SLSA builder of a provenance that carries a job's word.
const JobBuilder = "job"

// Cache names an entry of the cache.
func (i Instance) Cache(id sallyport.CacheID) string {
	return i.Issuer() + "/caches/" + escape(string(id))
}

// BuilderID is the SLSA builder of an isolation level (sallyport.Isolation.Level).
func (i Instance) BuilderID(level string) string {
	return i.Issuer() + "/builders/" + escape(level) + "/v1"
}

// Repository names a project's git repository.
func (i Instance) Repository(project string) string {
	return i.Issuer() + "/" + escape(project) + ".git"
}

// Run names a run.
func (i Instance) Run(id sallyport.RunID) string { return i.Issuer() + "/runs/" + escape(string(id)) }

// Job names a job of a run: the invocation of a provenance.
func (i Instance) Job(run sallyport.RunID, job sallyport.JobID) string {
	return i.Run(run) + "/jobs/" + escape(string(job))
}

// SignatureOrigin is the name of the signature log. Verifiers derive it from the
// host name of the log's URL, so each log has a host name of its own.
func (i Instance) SignatureOrigin() string { return "log." + string(i) }

// AuditOrigin is the name of the audit log.
func (i Instance) AuditOrigin() string { return "audit." + string(i) }

// escape makes s safe inside a URL path, keeping '/'. '@' is escaped too,
// because it separates the workflow from the ref.
func escape(s string) string {
	segments := strings.Split(s, "/")
	for n, segment := range segments {
		segments[n] = strings.ReplaceAll(url.PathEscape(segment), "@", "%40")
	}
	return strings.Join(segments, "/")
}
