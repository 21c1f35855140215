package web

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/sallyport-ci/sallyport"
)

type systemView struct {
	Health sallyport.InstanceHealth
	Alarms []string
	Queues []queueRow
	Server string // version of these pages
	Issuer *issuerView
}

// issuerView is the issuer of ID tokens with the state of each key.
type issuerView struct {
	sallyport.IssuerStatus
	States []string // by key
}

type queueRow struct {
	Name  string
	Count int
}

func (s *server) systemPage(w http.ResponseWriter, r *http.Request) error {
	h, err := s.Instance.Health(r.Context())
	if err != nil {
		return err
	}
	v := systemView{Health: h, Alarms: alarmsOf(h), Server: s.version}
	switch st, err := s.Issuers.IssuerStatus(r.Context()); {
	case err == nil:
		v.Issuer = &issuerView{IssuerStatus: st}
		now := s.now()
		for _, k := range st.Keys {
			v.Issuer.States = append(v.Issuer.States, st.Keys.State(k, now))
		}
	case sallyport.ErrorCode(err) != sallyport.CodeUnavailable:
		return err
	}
	for name, n := range h.Queues {
		v.Queues = append(v.Queues, queueRow{name, n})
	}
	slices.SortFunc(v.Queues, func(a, b queueRow) int { return cmp.Compare(a.Name, b.Name) })
	return s.render(w, r, "system", view{Title: "System", Nav: "system", Body: v, Poll: 5, Refresh: 30})
}

// alarms returns the health of the installation with what needs a person, or
// nil when the asker may not see it.
func (s *server) alarms(ctx context.Context) (*sallyport.InstanceHealth, []string) {
	h, err := s.Instance.Health(ctx)
	if err != nil {
		if m := s.missing(ctx, "health", err); m != "" {
			return nil, []string{m}
		}
		return nil, nil
	}
	return &h, alarmsOf(h)
}

func alarmsOf(h sallyport.InstanceHealth) []string {
	alarms := slices.Concat(h.Problems, h.Alarms)
	if h.Audit.Halted != "" {
		alarms = append(alarms, "The audit log has stopped: "+h.Audit.Halted)
	}
	if len(h.Runners) == 0 {
		alarms = append(alarms, "No runner has asked for work lately: jobs will wait.")
	}
	if !h.Ready && len(alarms) == 0 {
		alarms = append(alarms, "The control plane is not ready yet.")
	}
	return alarms
}

func (s *server) downloadTrustRoot(w http.ResponseWriter, r *http.Request) error {
	b, err := s.Instance.TrustRoot(r.Context())
	if err != nil {
		return err
	}
	attachment(w, "trusted_root.json", "application/json", int64(len(b)))
	_, err = w.Write(b)
	return gone(err)
}

// Behind says how many records the log does not commit to yet.
func (v systemView) Behind() int64 { return v.Health.Audit.Records - v.Health.Audit.Logged }

// Summary says how a runner's isolation stands in a few words.
func (systemView) Summary(i sallyport.Isolation) string {
	if len(i.NotEnforced) == 0 {
		return "everything enforced"
	}
	return fmt.Sprintf("%d not enforced", len(i.NotEnforced))
}
