package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/egress"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

const secretCanary = "cnry-4c1f0b9e-a-secret"

func sealing(c *Config) {
	registries(c)
	c.Sealer = sallyporttest.NewKMS()
}

func (h *house) set(environment, name, value string) {
	h.t.Helper()
	_, err := h.s.Secrets.SetSecret(h.admin, h.p.ID, environment, name, sallyport.NewSecret([]byte(value)))
	check(h.t, err)
}

const lendingRules = `network: listed
credentials:
  - {name: api, secret: TOKEN, kind: bearer, host: api.example.com, jobs: [a]}
  - {name: open, secret: OPEN, kind: bearer, host: api.example.com, jobs: [a], expose: true}
`

func TestKeptSecretsAreLentByRule(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealing)
	h.set("", "TOKEN", secretCanary)
	h.set("", "OPEN", "exposed-value")
	h.set("", "UNUSED", "no-rule-names-it")
	h.set("production", "TOKEN", "of-production")
	flow := head + "  a:\n" + step("a") + "  b:\n" + step("b")
	h.push("main", files{workflowFile: flow, egress.File: lendingRules})
	leases := map[string]*sallyport.Lease{}
	for range 2 {
		l := h.lease()
		leases[l.Job.Key] = l
		h.finish(l, sallyport.Success, nil)
	}
	a, b := leases["a"], leases["b"]
	if len(a.Lent) != 2 || a.Lent[0].Value != secretCanary || a.Lent[1].Value != "exposed-value" || !a.Job.Lent {
		t.Fatalf("lent %+v", a.Lent)
	}
	if p := a.Secrets["TOKEN"]; p != a.Lent[0].Placeholder || !strings.HasPrefix(p, "lent-") || len(p) < 20 {
		t.Errorf("the job holds %q", p)
	}
	if a.Secrets["OPEN"] != "exposed-value" || len(a.Secrets) != 2 {
		t.Errorf("the job holds %v", a.Secrets)
	}
	if strings.Contains(fmt.Sprint(a.Contexts), secretCanary) {
		t.Error("the value is among the contexts")
	}
	if len(b.Lent)+len(b.Secrets) > 0 || b.Job.Lent {
		t.Errorf("a job without a rule: %+v %+v", b.Lent, b.Secrets)
	}
	records, err := h.s.Audit.Records(h.admin, sallyport.AuditFilter{Action: "job.leased"})
	check(t, err)
	text := fmt.Sprint(string(records[0].Detail), string(records[1].Detail))
	if !strings.Contains(text, `TOKEN@`) || !strings.Contains(text, `"exposed":["open"]`) || strings.Contains(text, secretCanary) {
		t.Errorf("the trail says %s", text)
	}

	h.push("side", files{workflowFile: flow, egress.File: lendingRules}) // a branch that anybody may push to
	for range 2 {
		l := h.lease()
		if len(l.Lent)+len(l.Secrets) > 0 || l.Job.Lent {
			t.Errorf("a run of the tier %s: %+v %+v", l.Run.Tier, l.Lent, l.Secrets)
		}
		h.finish(l, sallyport.Success, nil)
	}
}

func TestSecretsOfAnEnvironmentAreItsJobs(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealing)
	h.set("", "TOKEN", secretCanary)
	h.set("production", "TOKEN", "of-production")
	h.set("staging", "TOKEN", "of-staging")
	h.push("main", files{workflowFile: head + "  a:\n    environment: production\n" + step("a"), egress.File: lendingRules})
	l := h.lease()
	if len(l.Lent) != 1 || l.Lent[0].Value != "of-production" {
		t.Errorf("lent %+v", l.Lent)
	}
}

// A value that somebody moves in the database to where more people may use it does not open.
func TestSealedSecretsOpenInTheirPlaceAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealing)
	h.set("production", "TOKEN", secretCanary)
	h.set("", "TOKEN", "another-value")
	check(t, h.store.Update(t.Context(), func(tx sallyport.Tx) error {
		_, sealed, err := tx.Secrets().Sealed(h.p.ID, "production", "TOKEN")
		if err != nil {
			return err
		}
		if strings.Contains(string(sealed), secretCanary) {
			t.Error("the value is kept in clear")
		}
		e, _, err := tx.Secrets().Sealed(h.p.ID, "", "TOKEN")
		if err != nil {
			return err
		}
		return tx.Secrets().Put(e, sealed)
	}))
	h.push("main", files{workflowFile: head + "  a:\n" + step("a"), egress.File: lendingRules})
	if l, err := h.y.Lease(h.runner, sallyport.LeaseRequest{Runner: "r1", Labels: []string{"ubuntu-latest"}}); err == nil || l != nil {
		t.Errorf("leased %+v, %v", l, err)
	}
}

func TestWhatCannotBeASecret(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealing)
	for _, c := range []struct{ environment, name, value, want string }{
		{"", "token", secretCanary, "not the name"}, {"", "", secretCanary, "not the name"}, {"", "A-B", secretCanary, "not the name"},
		{"", "GITHUB_TOKEN", secretCanary, "the platform's own"}, {"", "A", "short", "at least 8 bytes"}, {"", "A", "       \n", "at least 8 bytes"},
		{"", "A", strings.Repeat("x", sallyport.MaxSecret+1), "at most 48 KiB"}, {"a\nb", "A", secretCanary, "not the name of an environment"},
	} {
		_, err := h.s.Secrets.SetSecret(h.admin, h.p.ID, c.environment, c.name, sallyport.NewSecret([]byte(c.value)))
		if sallyport.ErrorCode(err) != sallyport.CodeInvalid || !strings.Contains(err.Error(), c.want) || len(c.value) > 4 && strings.Contains(fmt.Sprintf("%+v", err), c.value) {
			t.Errorf("%+.40q: %v", c, err)
		}
	}
	member := h.holder(sallyport.Principal{Kind: sallyport.Person, ID: "u2", Name: "bo", Projects: []sallyport.ProjectID{h.p.ID}})
	_, err := h.s.Secrets.SetSecret(member, h.p.ID, "", "A", sallyport.NewSecret([]byte(secretCanary)))
	if sallyport.ErrorCode(err) != sallyport.CodeDenied {
		t.Errorf("a member of the project: %v", err)
	}
	if list, err := h.s.Secrets.Secrets(member, h.p.ID); err != nil || len(list) != 0 {
		t.Errorf("a member lists: %v, %v", list, err)
	}
	_, err = h.s.Secrets.SetSecret(h.admin, "none", "", "A", sallyport.NewSecret([]byte(secretCanary)))
	if sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("no project: %v", err)
	}
}

// TestSecretsOfAnEnvironmentInOtherLetters keeps a secret where policies say that it is, however its
// environment was written, and refuses letters that another one is folded to.
func TestSecretsOfAnEnvironmentInOtherLetters(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealing)
	h.set("PRODUCTION", "TOKEN", secretCanary)
	list, err := h.s.Secrets.Secrets(h.admin, h.p.ID)
	check(t, err)
	if len(list) != 1 || list[0].Environment != "production" {
		t.Errorf("kept as %+v", list)
	}
	check(t, h.s.Secrets.DeleteSecret(h.admin, h.p.ID, "Production", "TOKEN"))
	_, err = h.s.Secrets.SetSecret(h.admin, h.p.ID, "\u017ftage", "TOKEN", sallyport.NewSecret([]byte(secretCanary)))
	if sallyport.ErrorCode(err) != sallyport.CodeInvalid {
		t.Errorf("a long s: %v", err)
	}
}
