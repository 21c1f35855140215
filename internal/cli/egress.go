package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/egress"
)

type egressCmd struct {
	Show  egressShowCmd  `cmd:"" help:"Show what the jobs of a run asked for at their doors, refusals first."`
	Learn egressLearnCmd `cmd:"" help:"Propose the smallest rules for what the last runs asked for, as a diff."`
	Check egressCheckCmd `cmd:"" help:"Check that a rules file is valid."`
}

type egressShowCmd struct {
	remote
	output
	ID      string `arg:"" name:"run" help:"Id or number of the run."`
	Project string `help:"The project, when a number is given." placeholder:"NAME"`
	Job     string `help:"Only the job with this name, key or id." placeholder:"JOB"`
}

func (c egressShowCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	id, err := findRun(e.ctx, s, c.Project, c.ID)
	if err != nil {
		return err
	}
	doors, err := s.Doors.Doors(e.ctx, id)
	if err != nil {
		return err
	}
	if c.Job != "" {
		doors = slices.DeleteFunc(doors, func(d sallyport.Door) bool { return d.Name != c.Job && d.Key != c.Job && string(d.Job) != c.Job })
		if len(doors) == 0 {
			return sallyport.Errorf(sallyport.CodeNotFound, "no job %.80q of the run has started", c.Job).WithHint("sallyport runs %s lists its jobs", id)
		}
	}
	return c.print(e, orEmpty(doors), func(w io.Writer) {
		for i, d := range doors {
			if i > 0 {
				fmt.Fprintln(w)
			}
			printDoor(w, d)
		}
	})
}

func printDoor(w io.Writer, d sallyport.Door) {
	fmt.Fprintf(w, "%s: network %s%s\n", plain(d.Name), d.Rules.Level, rulesOrigin(d.Rules))
	r := d.Record
	if len(r.Flows)+len(r.Packages)+len(r.Uses) == 0 {
		fmt.Fprintln(w, "nothing asked for the way out")
	}
	if len(r.Flows) > 0 {
		slices.SortStableFunc(r.Flows, func(a, b sallyport.Flow) int {
			return cmp.Or(cmp.Compare(decisionOrder(a.Decision), decisionOrder(b.Decision)), a.First.Compare(b.First))
		})
		table(w, "DECISION\tHOST\tPORT\tVIA\tTIMES\tSENT\tRECEIVED\tSTEP\tWHY", func(line func(...any)) {
			for _, f := range r.Flows {
				line(f.Decision, cmp.Or(f.Host, f.Address, "-"), number(f.Port), f.Protocol, f.Count, size(f.Sent), size(f.Received), number(f.Step), cmp.Or(f.Reason, f.Rule, "-"))
			}
		})
	}
	if len(r.Packages) > 0 {
		slices.SortStableFunc(r.Packages, func(a, b sallyport.PackageFetch) int {
			return cmp.Or(cmp.Compare(decisionOrder(a.Decision), decisionOrder(b.Decision)), strings.Compare(a.PURL, b.PURL))
		})
		table(w, "DECISION\tPACKAGE\tSIZE\tDIGEST\tSTEP\tWHY", func(line func(...any)) {
			for _, p := range r.Packages {
				line(p.Decision, p.PURL, size(p.Size), cmp.Or(p.Digest.Short(), "-"), number(p.Step), cmp.Or(p.Reason, "-"))
			}
		})
	}
	if len(r.Uses) > 0 {
		table(w, "DECISION\tCREDENTIAL\tHOST\tMETHOD\tSTATUS\tSCRUBBED\tSTEP\tWHY", func(line func(...any)) {
			for _, u := range r.Uses {
				line(u.Decision, u.Credential, u.Host, u.Method, number(u.Status), number(u.Scrubbed), number(u.Step), cmp.Or(u.Reason, "-"))
			}
		})
	}
	if r.Lost > 0 {
		fmt.Fprintf(w, "%d more were not kept: there were too many\n", r.Lost)
	}
}

func rulesOrigin(r sallyport.EgressRules) string {
	switch {
	case r.Broken != "":
		return ", for the rules cannot be read: " + plain(r.Broken)
	case r.File.Path == "":
		return ", the installation's level: the project declares none"
	case r.Observe:
		return " by " + r.File.Path + " at " + commit(r.Commit) + ", in observe mode"
	}
	return " by " + r.File.Path + " at " + commit(r.Commit)
}

func decisionOrder(d sallyport.EgressDecision) int {
	return slices.Index([]sallyport.EgressDecision{sallyport.EgressDenied, sallyport.EgressObserved, sallyport.EgressAllowed}, d)
}

func number(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

type egressLearnCmd struct {
	remote
	output
	Project string `help:"The project. Default: the name of the directory." placeholder:"NAME"`
	Dir     string `short:"C" help:"A directory in the work tree whose rules are added to." default:"." type:"path" placeholder:"DIR"`
	Runs    int    `help:"Look at so many of the last runs." default:"20" placeholder:"N"`
	Write   bool   `help:"Write the file in the work tree. Nothing counts before it is merged into the protected branch."`
}

func (c egressLearnCmd) Run(e *env) error {
	root, err := workTree(c.Dir)
	if err != nil {
		return err
	}
	file, err := readRules(filepath.Join(root, egress.File))
	if errors.Is(err, os.ErrNotExist) {
		file, err = []byte{}, nil
	}
	if err != nil {
		return err
	}
	s, err := c.services()
	if err != nil {
		return err
	}
	p, err := s.Projects.Project(e.ctx, cmp.Or(c.Project, filepath.Base(root)))
	if err != nil {
		return err
	}
	proposal, err := s.Doors.Learn(e.ctx, p.ID, c.Runs, file)
	if err != nil {
		return err
	}
	if c.Write && proposal.Diff != "" {
		if err := writeRules(root, proposal.File); err != nil {
			return err
		}
	}
	return c.print(e, proposal, func(w io.Writer) {
		fmt.Fprint(w, proposal.Diff)
		if proposal.Diff == "" {
			fmt.Fprintf(e.stderr, "nothing is missing for what the last %d runs asked for\n", proposal.Runs)
		}
		for _, n := range proposal.Notes {
			fmt.Fprintln(e.stderr, plain(n))
		}
		switch {
		case proposal.Diff == "":
		case c.Write:
			fmt.Fprintf(e.stderr, "wrote %s: review it, and merge it into the protected branch\n", egress.File)
		default:
			fmt.Fprintln(e.stderr, "write it with --write, or apply it with: git apply")
		}
	})
}

// workTree is the root of the git work tree around a directory, else the directory.
func workTree(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	out, err := exec.Command("git", "-C", abs, "rev-parse", "--show-toplevel").Output()
	if top := strings.TrimSpace(string(out)); err == nil && top != "" {
		return top, nil
	}
	return abs, nil
}

func readRules(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, egress.MaxBytes+1))
}

// writeRules replaces the rules file of a work tree.
func writeRules(root, content string) error {
	in, err := os.OpenRoot(root) // a link in the tree leads nowhere else
	if err != nil {
		return err
	}
	defer in.Close()
	if err := in.MkdirAll(filepath.Dir(egress.File), 0o755); err != nil {
		return err
	}
	return in.WriteFile(egress.File, []byte(content), 0o644)
}

type egressCheckCmd struct {
	output
	File string `arg:"" optional:"" help:"The rules file. Default: .sallyport/egress.yaml of the work tree."`
}

// Run prints what is wrong with a rules file, one line each.
func (c egressCheckCmd) Run(e *env) error {
	path := c.File
	if path == "" {
		root, err := workTree(".")
		if err != nil {
			return err
		}
		path = filepath.Join(root, egress.File)
	}
	src, err := readRules(path)
	if errors.Is(err, os.ErrNotExist) {
		return sallyport.Errorf(sallyport.CodeNotFound, "there is no file %s", path).WithHint("write network: none, listed or registries into %s", egress.File)
	}
	if err != nil {
		return err
	}
	rules, diags := egress.Parse(src)
	for i := range diags {
		if c.File != "" {
			diags[i].File = c.File
		}
	}
	err = c.print(e, orEmpty(diags), func(w io.Writer) {
		for _, d := range diags {
			fmt.Fprintln(e.stderr, plain(d.String()))
		}
		if len(diags) == 0 {
			fmt.Fprintf(w, "valid: network %s, %d rules, %d credentials\n", rules.Level, len(rules.Rules), len(rules.Credentials))
		}
	})
	if err == nil && len(diags) > 0 {
		return exitError(exitUsage)
	}
	return err
}
