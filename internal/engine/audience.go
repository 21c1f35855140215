package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/environment"
)

// audience judges for whom a job wants a token: what the protected branch declared when
// the run was planned decides, of the job's environment before that of the project. Asked
// for none, as GitHub's client may, it is the installation's own for the project.
func (f *frame) audience(j sallyport.Job, asked, own string) (a sallyport.Audience, refused error) {
	rules := f.s.plan.Rules
	if rules != nil && rules.Broken != "" {
		return a, sallyport.Errorf(sallyport.CodeDenied, "no ID token is issued while the audiences cannot be read: %s", rules.Broken).
			WithHint("mend %s on %s and run again", environment.File, f.s.p.DefaultBranch)
	}
	if asked == "" {
		asked = own
	}
	var allowed sallyport.Audiences
	where := "audiences:"
	if r := f.rule(&j); r != nil && r.Audiences != nil {
		allowed, where = r.Audiences, "audiences: of environment "+r.Name
	} else if rules != nil && rules.Audiences != nil {
		allowed = rules.Audiences
	} else {
		allowed = append(sallyport.WellKnownAudiences(), sallyport.Audience{Name: own})
	}
	if a, ok := allowed.Find(asked); ok {
		return a, nil
	}
	return a, sallyport.Errorf(sallyport.CodeDenied, "the job may have no ID token for the audience %.100q", asked).
		WithHint("add it to %s in %s on %s", where, environment.File, f.s.p.DefaultBranch)
}

// awsTagged are the audiences whose tokens carry session tags.
var awsTagged = [...]string{"sts.amazonaws.com", "sts.amazonaws.com.cn"}

// awsTags is the name of the claim that AWS STS takes session tags from.
const awsTags = "https://aws.amazon.com/tags"

// sessionTags returns the session tags of a job: what AWS cannot match in the claims. A value
// that AWS would refuse, and the whole token with it, is left out.
func sessionTags(claims map[string]any) map[string]any {
	tags, transitive := map[string][]string{}, []string{}
	for _, key := range []string{"repository", "repository_id", "environment", "ref", "run_id", "job", "actor", "tier"} {
		v := fmt.Sprint(claims[key])
		if claims[key] == nil || len(v) > 256 || v == "" || strings.ContainsFunc(v, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" _.:/=+-@", r))
		}) {
			continue
		}
		tags[key] = []string{v}
		transitive = append(transitive, key)
	}
	return map[string]any{"principal_tags": tags, "transitive_tag_keys": transitive}
}

func tagged(audience string) bool { return slices.Contains(awsTagged[:], audience) }
