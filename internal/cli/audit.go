package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/daemon"
)

type auditCmd struct {
	List   auditListCmd   `cmd:"" help:"List audit records, newest first."`
	Verify auditVerifyCmd `cmd:"" help:"Check the whole trail, or an export of it, against its transparency log."`
	Export auditExportCmd `cmd:"" help:"Write trail and log to a directory, to be checked elsewhere."`
	Key    auditKeyCmd    `cmd:"" help:"Print the key of the audit log as a line of a witness policy."`
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
	Data          string        `help:"Data directory." default:"data" env:"SALLYPORT_DATA" placeholder:"DIR"`
	Export        string        `help:"Check this export instead, with nothing but the policy." placeholder:"DIR"`
	WitnessPolicy string        `help:"With --export: file that names the log's key and whose cosignatures are enough." placeholder:"FILE"`
	Within        time.Duration `help:"With --export: how old the cosignatures may be; 0: any age." placeholder:"DURATION"`
}

// Run checks the files themselves: it does not ask the process that wrote them.
func (c auditVerifyCmd) Run(e *env) error {
	if c.Export != "" || c.WitnessPolicy != "" {
		return c.export(e)
	}
	report, err := daemon.VerifyAudit(e.ctx, c.Data)
	if err != nil {
		return err
	}
	err = c.print(e, report, func(w io.Writer) {
		if report.OK {
			fmt.Fprintf(w, "OK: %d records, %d of them in the log of %d entries, root %s\n", report.Records, report.Logged, report.Size, report.Root)
			return
		}
		auditProblems(w, report)
	})
	if err == nil && !report.OK {
		return exitError(exitFailed)
	}
	return err
}

func auditProblems(w io.Writer, report sallyport.AuditReport) {
	fmt.Fprintf(w, "NOT OK: %d records, log of %d entries\n", report.Records, report.Size)
	for _, p := range report.Problems {
		if p.Seq >= 0 {
			fmt.Fprintf(w, "  record %d %s: %s\n", p.Seq, p.Kind, p.Text)
		} else {
			fmt.Fprintf(w, "  %s: %s\n", p.Kind, p.Text)
		}
	}
}

func (c auditVerifyCmd) export(e *env) error {
	if c.Export == "" || c.WitnessPolicy == "" {
		return sallyport.Errorf(sallyport.CodeInvalid, "an export is checked with a policy").WithHint("give both --export and --witness-policy")
	}
	report, err := daemon.VerifyExport(e.ctx, c.Export, c.WitnessPolicy, c.Within)
	if err != nil {
		return err
	}
	err = c.print(e, report, func(w io.Writer) {
		if !report.OK {
			auditProblems(w, report.AuditReport)
			return
		}
		fmt.Fprintf(w, "OK: %d records in the log of %d entries, root %s\n", report.Records, report.Size, report.Root)
		if report.WitnessedAt == nil {
			fmt.Fprintln(w, "No witness was asked for: whoever holds the log's key could have written this.")
			return
		}
		fmt.Fprintf(w, "Witnessed at %s by %s: %d records; the other %d are vouched for by the installation alone\n",
			report.WitnessedAt.Format(time.RFC3339), strings.Join(report.Witnesses, ", "), report.Witnessed, report.Records-report.Witnessed)
	})
	if err == nil && !report.OK {
		return exitError(exitFailed)
	}
	return err
}

type auditExportCmd struct {
	Data string `help:"Data directory." default:"data" env:"SALLYPORT_DATA" placeholder:"DIR"`
	Out  string `required:"" help:"Directory to make." placeholder:"DIR"`
}

func (c auditExportCmd) Run(e *env) error { return daemon.ExportAudit(e.ctx, c.Data, c.Out) }

type auditKeyCmd struct {
	Data string `help:"Data directory." default:"data" env:"SALLYPORT_DATA" placeholder:"DIR"`
}

func (c auditKeyCmd) Run(e *env) error {
	vkey, err := daemon.AuditKey(c.Data)
	if err == nil {
		fmt.Fprintf(e.stdout, "log %s\n", vkey)
	}
	return err
}
