package engine

import (
	"slices"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

func TestStrangersLabels(t *testing.T) {
	t.Parallel()
	asked := []string{"linux", sallyport.LabelStrong}
	for _, c := range []struct {
		untrusted Strangers
		tier      sallyport.Tier
		labels    []string
		want      []string // nil: refused
	}{
		{StrangersStrong, sallyport.TierUntrusted, []string{"linux"}, asked},
		{StrangersStrong, sallyport.TierUntrusted, asked, asked},
		{StrangersStrong, sallyport.TierMember, []string{"linux"}, []string{"linux"}},
		{StrangersStandard, sallyport.TierUntrusted, []string{"linux"}, []string{"linux"}},
		{StrangersRefused, sallyport.TierUntrusted, []string{"linux"}, nil},
		{StrangersRefused, sallyport.TierProtected, []string{"linux"}, []string{"linux"}},
		{"unknown", sallyport.TierUntrusted, []string{"linux"}, nil},
	} {
		got, err := (&Engine{untrusted: c.untrusted}).strangersLabels(c.tier, c.labels)
		if !slices.Equal(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%q, %s, %q: got %q, %v; want %q", c.untrusted, c.tier, c.labels, got, err, c.want)
		}
	}
}
