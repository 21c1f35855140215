package web

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"

	"github.com/sallyport-ci/sallyport"
)

// maxDoorRows bounds each table of the page; the rest is counted.
const maxDoorRows = 500

type doorView struct {
	jobView
	Door *sallyport.Door // nil when the job has not started
	// More are the rows beyond those shown, by table.
	MoreFlows, MorePackages, MoreUses int
}

// doorPage shows what a job asked for at its door, refusals first.
func (s *server) doorPage(w http.ResponseWriter, r *http.Request) error {
	v, job, err := s.findJob(r)
	if err != nil {
		return err
	}
	if v.Project, err = s.Projects.Project(r.Context(), string(v.Run.Project)); err != nil {
		return err
	}
	doors, err := s.Doors.Doors(r.Context(), v.Run.ID)
	if err != nil {
		return err
	}
	d := doorView{jobView: v}
	if i := slices.IndexFunc(doors, func(d sallyport.Door) bool { return d.Job == job.ID }); i >= 0 {
		d.fill(doors[i])
	}
	return s.render(w, r, "door", view{Title: "What " + job.Name + " reached", Nav: "runs", Body: d, Crumbs: []crumb{
		{v.Project.Name, "/projects/" + v.Project.Name}, {"Run #" + strconv.FormatInt(v.Run.Number, 10), "/runs/" + string(v.Run.ID)}, {job.Name, v.Base()}}})
}

func (v *doorView) fill(d sallyport.Door) {
	r := &d.Record
	slices.SortStableFunc(r.Flows, func(a, b sallyport.Flow) int { return cmp.Compare(gravity(a.Decision), gravity(b.Decision)) })
	slices.SortStableFunc(r.Packages, func(a, b sallyport.PackageFetch) int {
		return cmp.Or(cmp.Compare(gravity(a.Decision), gravity(b.Decision)), cmp.Compare(a.PURL, b.PURL))
	})
	slices.SortStableFunc(r.Uses, func(a, b sallyport.CredentialUse) int { return cmp.Compare(gravity(a.Decision), gravity(b.Decision)) })
	v.MoreFlows, v.MorePackages, v.MoreUses = len(r.Flows)-maxDoorRows, len(r.Packages)-maxDoorRows, len(r.Uses)-maxDoorRows
	r.Flows, r.Packages, r.Uses = r.Flows[:min(len(r.Flows), maxDoorRows)], r.Packages[:min(len(r.Packages), maxDoorRows)], r.Uses[:min(len(r.Uses), maxDoorRows)]
	v.Door = &d
}

// gravity orders decisions by how much they are to be looked at.
func gravity(d sallyport.EgressDecision) int {
	switch d {
	case sallyport.EgressAllowed:
		return 2
	case sallyport.EgressObserved:
		return 1
	}
	return 0
}

// decisionTone is that of a door's decision.
func decisionTone(d sallyport.EgressDecision) string {
	return []string{"bad", "warn", "ok"}[gravity(d)]
}

// doorReason says in words why a door refused something, and what to do about it.
func doorReason(reason string) string {
	switch reason {
	case "":
		return ""
	case "no-network":
		return "The job has no network. If it needs one, declare it in .sallyport/egress.yaml on the protected branch."
	case "host-not-allowed":
		return "No rule names this host for this job. If it should be reached, sallyport egress learn proposes the rule."
	case "port-not-allowed":
		return "A rule names this host at other ports. If this one is meant, add it under ports."
	case "method-not-allowed":
		return "The rule of this host allows other methods. If this one is meant, add it under methods."
	case "path-not-allowed":
		return "The rule of this host allows other paths. If this one is meant, add it under paths."
	case "address-without-name":
		return "The job used an address of its own. Rules name hosts: let it ask for the host's name."
	case "private-address":
		return "The name leads to a private address. An operator can name it with --egress-private."
	case "sni-mismatch", "host-mismatch":
		return "The job asked for one name and then spoke to another. That hides where something goes."
	case "ech", "sni-missing":
		return "The name is hidden from the door. Turn encrypted client hello off, or use a client that sends the name."
	case "not-tls", "not-http", "protocol-not-allowed":
		return "The door lets TLS and HTTP through, and what rules name of other ports. Use one of them."
	case "tls-handshake":
		return "The client did not take the door's certificate. Let it trust the bundle in SSL_CERT_FILE."
	case "too-many-flows", "too-many-bytes", "too-many-questions", "too-many-names":
		return "The job used up what it may take at the door (" + reason + "). Look for a loop."
	}
	return reason
}

// runDoor is what the doors of a run refused, of one job.
type runDoor struct {
	sallyport.Door
	Refused  int // times
	Observed int
}

// refusals are the jobs of a run whose doors refused something, or would have.
func refusals(doors []sallyport.Door) []runDoor {
	var out []runDoor
	for _, d := range doors {
		n := runDoor{Door: d}
		count := func(decision sallyport.EgressDecision, times int) {
			switch gravity(decision) {
			case 0:
				n.Refused += times
			case 1:
				n.Observed += times
			}
		}
		for _, f := range d.Record.Flows {
			count(f.Decision, f.Count)
		}
		for _, p := range d.Record.Packages {
			count(p.Decision, 1)
		}
		for _, u := range d.Record.Uses {
			count(u.Decision, 1)
		}
		if n.Refused+n.Observed > 0 {
			out = append(out, n)
		}
	}
	return out
}
