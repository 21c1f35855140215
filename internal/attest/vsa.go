package attest

import (
	"time"

	"github.com/sallyport-ci/sallyport"
)

// slsaVersion is the version of SLSA whose levels a summary speaks of.
const slsaVersion = "1.2"

// VSAInput is a gate's verdict, for a SLSA verification summary.
type VSAInput struct {
	Verifier string // Instance.GateIdentity
	At       time.Time
	Resource string // URI of what was judged: Instance.Run and the artifact, or a purl
	Policy   Resource
	// Inputs are the bundles that were weighed, by digest: all of them or none.
	Inputs []Resource
	Passed bool
	// Levels are those that were verified, e.g. SLSA_BUILD_LEVEL_2; none when it did not pass.
	Levels []string
}

type vsa struct {
	Verifier           builder    `json:"verifier"`
	TimeVerified       string     `json:"timeVerified"`
	ResourceURI        string     `json:"resourceUri"`
	Policy             Resource   `json:"policy"`
	InputAttestations  []Resource `json:"inputAttestations,omitempty"`
	VerificationResult string     `json:"verificationResult"`
	VerifiedLevels     []string   `json:"verifiedLevels"`
	SLSAVersion        string     `json:"slsaVersion"`
}

// VSA returns a verification summary about the subjects.
func VSA(subjects []Subject, in VSAInput) ([]byte, error) {
	if in.Verifier == "" || in.Resource == "" || in.At.IsZero() || len(in.Policy.Digest) == 0 {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the verification summary needs verifier, resource, time and policy digest")
	}
	p := vsa{
		Verifier:           builder{ID: in.Verifier},
		TimeVerified:       timestampText(in.At),
		ResourceURI:        in.Resource,
		Policy:             in.Policy,
		InputAttestations:  in.Inputs,
		VerificationResult: "FAILED",
		VerifiedLevels:     []string{},
		SLSAVersion:        slsaVersion,
	}
	if in.Passed {
		p.VerificationResult = "PASSED"
		p.VerifiedLevels = append(p.VerifiedLevels, in.Levels...)
	}
	return Statement(subjects, sallyport.PredicateVSA, p)
}
