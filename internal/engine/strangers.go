package engine

import (
	"slices"

	"github.com/sallyport-ci/sallyport"
)

// Strangers says where code of a run of tier untrusted may run.
type Strangers string

const (
	StrangersStrong   Strangers = ""         // in a room of level strong, or not at all
	StrangersStandard Strangers = "standard" // as everybody's
	StrangersRefused  Strangers = "refuse"   // nowhere
)

// strangersLabels adds to the labels of a job what its run's tier demands of a runner. The
// level that the runner then reports is in the provenance, as a builder of its own.
func (e *Engine) strangersLabels(tier sallyport.Tier, labels []string) ([]string, error) {
	if tier != sallyport.TierUntrusted {
		return labels, nil
	}
	switch e.untrusted {
	case StrangersStandard:
		return labels, nil
	case StrangersStrong:
		if slices.Contains(labels, sallyport.LabelStrong) {
			return labels, nil
		}
		return append(slices.Clip(labels), sallyport.LabelStrong), nil
	default:
		return nil, sallyport.Errorf(sallyport.CodeDenied, "this installation runs no code of strangers: it has no rooms of level strong for it, or its operator does not want it").
			WithHint("make gVisor (runsc) available to the runner, or start with --untrusted-in standard")
	}
}
