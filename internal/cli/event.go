package cli

import (
	"fmt"
	"io"

	"github.com/sallyport-ci/sallyport"
)

type eventCmd struct {
	remote
	output
	Name    string `arg:"" help:"The event, as GitHub calls it: pull_request, issues, release, repository_dispatch, …"`
	Project string `help:"The project." placeholder:"NAME"`
	Action  string `help:"Activity type, or event_type of a repository_dispatch; default: the payload's action." placeholder:"TYPE"`
	Payload string `help:"File with the event's payload, JSON." type:"path" placeholder:"FILE"`
	Key     string `help:"Id of the delivery: the same one is taken in once." placeholder:"ID"`
}

// Run hands an event of a forge in, as a webhook would.
func (c eventCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	p, err := findProject(e.ctx, s, c.Project)
	if err != nil {
		return err
	}
	payload, err := readPayload(c.Payload)
	if err != nil {
		return err
	}
	list, err := s.Projects.Deliver(e.ctx, p.ID, sallyport.Delivery{Event: c.Name, Action: c.Action, Payload: payload, Key: c.Key})
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "no workflow is started by this event")
		}
		for _, r := range list {
			fmt.Fprintf(w, "run #%d of %s started, tier %s: %s\n", r.Number, plain(r.Name), r.Tier, r.ID)
		}
	})
}
