package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/daemon"
)

type auditCmd struct {
	List   auditListCmd   `cmd:"" help:"List audit records, newest first."`
	Verify auditVerifyCmd `cmd:"" help:"Check the whole trail against its transparency log."`
}

type auditListCmd struct {
	remote
	output
	Actor  string `help:"Only this actor." placeholder:"ACTOR"`
	Action string `help:"Only actions that begin so." placeholder:"PREFIX"`
	Object string `help:"Only this object." placeholder:"OBJECT"`
	Limit  int    `help:"How many at most." default:"50"`
}

func (c auditListCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	list, err := s.Audit.Records(e.ctx, sallyport.AuditFilter{Actor: c.Actor, Action: c.Action, Object: c.Object, Limit: c.Limit})
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "SEQ\tAT\tACTOR\tACTION\tOBJECT\tLOGGED", func(line func(...any)) {
			for _, r := range list {
				logged := "not yet"
				if r.LogIndex >= 0 {
					logged = fmt.Sprint(r.LogIndex)
				}
				line(r.Seq, r.At.UTC().Format(time.RFC3339), r.Actor, r.Action, r.Object, logged)
			}
		})
	})
}

type auditVerifyCmd struct {
	output
	Data string `help:"Data directory." default:"data" env:"SALLYPORT_DATA" placeholder:"DIR"`
}

// Run checks the files themselves: it does not ask the process that wrote them.
func (c auditVerifyCmd) Run(e *env) error {
	report, err := daemon.VerifyAudit(e.ctx, c.Data)
	if err != nil {
		return err
	}
	err = c.print(e, report, func(w io.Writer) {
		if report.OK {
			fmt.Fprintf(w, "OK: %d records, %d of them in the log of %d entries, root %s\n", report.Records, report.Logged, report.Size, report.Root)
			return
		}
		fmt.Fprintf(w, "NOT OK: %d records, log of %d entries\n", report.Records, report.Size)
		for _, p := range report.Problems {
			if p.Seq >= 0 {
				fmt.Fprintf(w, "  record %d %s: %s\n", p.Seq, p.Kind, p.Text)
			} else {
				fmt.Fprintf(w, "  %s: %s\n", p.Kind, p.Text)
			}
		}
	})
	if err == nil && !report.OK {
		return exitError(exitFailed)
	}
	return err
}
