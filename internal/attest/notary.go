package attest

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// Log is the transparency log of signatures; tlog.Signatures implements it.
type Log interface {
	// Append adds an entry and returns when it is durable: its index, its inclusion
	// proof, and the signed checkpoint to which the proof leads.
	Append(ctx context.Context, entry []byte) (index int64, hashes [][]byte, checkpoint []byte, err error)
}

// Notary signs statements. It is safe for use by several goroutines.
type Notary struct {
	authority *Authority
	log       Log
	logID     []byte
	origin    string
}

// NewNotary returns a notary that signs by the authority and logs to log, whose
// name and key are key.
func NewNotary(a *Authority, log Log, key LogKey) (*Notary, error) {
	id, err := key.id()
	if err != nil {
		return nil, fmt.Errorf("make notary: %w", err)
	}
	return &Notary{authority: a, log: log, logID: id, origin: key.Origin}, nil
}

// Sign signs an in-toto statement as id, logs the signature, and returns a
// Sigstore bundle in JSON with the index of its log entry. now becomes the time
// of the certificate and of the timestamp. The private key exists for this one
// call.
//
// Verdicts and deployments are signed by the gate alone, and the gate signs no
// provenance (CodeDenied): whoever can have builds attested cannot thereby
// have them approved. A statement that could not be verified later is refused
// (CodeInvalid). When Sign fails, or is given up, the signature may be in the
// log, but nobody has it.
func (n *Notary) Sign(ctx context.Context, now time.Time, id Identity, statement []byte) (bundle []byte, logIndex int64, err error) {
	s, err := parseStatement(statement)
	if err != nil {
		return nil, 0, err
	}
	if err := n.mayState(id.SAN, s); err != nil {
		return nil, 0, err
	}
	key, leaf, err := n.authority.issueLeaf(now, id)
	if err != nil {
		return nil, 0, fmt.Errorf("sign statement: %w", err)
	}
	digest := sha256.Sum256(pae(payloadType, statement))
	p := signedParts{statement: statement, leaf: leaf, logID: n.logID}
	if p.signature, err = key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		return nil, 0, fmt.Errorf("sign statement: %w", err)
	}
	if p.timestamp, err = n.authority.timestamp(p.signature, now); err != nil {
		return nil, 0, fmt.Errorf("sign statement: %w", err)
	}
	if p.entry, err = logEntry(digest, p.signature, leaf); err != nil {
		return nil, 0, fmt.Errorf("sign statement: %w", err)
	}
	if p.index, p.hashes, p.checkpoint, err = n.log.Append(ctx, p.entry); err != nil {
		return nil, 0, fmt.Errorf("log signature: %w", err)
	}
	if !strings.HasPrefix(string(p.checkpoint), n.origin+"\n") {
		return nil, 0, fmt.Errorf("log signature: the checkpoint is not of log %s", n.origin)
	}
	bundle, err = p.bundle()
	if err != nil {
		return nil, 0, fmt.Errorf("pack bundle: %w", err)
	}
	return bundle, p.index, nil
}

// mayState keeps builds, verdicts, caches and the words of jobs apart.
func (n *Notary) mayState(san string, s statement) error {
	predicateType := s.PredicateType
	job := strings.HasPrefix(san, n.authority.instance.Issuer()+"/jobs/")
	if job && sallyport.OwnPredicate(predicateType) {
		return sallyport.Errorf(sallyport.CodeDenied, "a job signs no statement of type %s", predicateType)
	}
	for _, r := range s.Subject {
		if (r.Annotations["assertedBy"] == AssertedByJob) != job {
			return sallyport.Errorf(sallyport.CodeDenied, "what a job says is signed as a job's word and marked so, and nothing else is")
		}
	}
	if (san == n.authority.instance.CacheIdentity()) != (predicateType == sallyport.PredicateCache) {
		return sallyport.Errorf(sallyport.CodeDenied, "only the cache signs statements of type %s, and no others", sallyport.PredicateCache)
	}
	gate := san == n.authority.instance.GateIdentity()
	switch predicateType {
	case sallyport.PredicateVSA, sallyport.PredicateDeployment, sallyport.PredicateHealth:
		if !gate {
			return sallyport.Errorf(sallyport.CodeDenied, "only the gate signs statements of type %s", predicateType)
		}
	case sallyport.PredicateProvenance, sallyport.PredicateTrace:
		if gate {
			return sallyport.Errorf(sallyport.CodeDenied, "the gate signs no statements of type %s", predicateType)
		}
	}
	return nil
}
