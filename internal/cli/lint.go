package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/actions"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

type lintCmd struct {
	Dir      string   `short:"C" name:"dir" help:"Repository to look through." default:"." placeholder:"DIR"`
	Files    []string `arg:"" optional:"" name:"file" help:"Workflows and action files; default: all of the repository."`
	Format   string   `help:"text, json (lines) or sarif (2.1.0)." enum:"text,json,sarif" default:"text" placeholder:"FORMAT"`
	Severity string   `help:"Least severity that is shown and fails: low, medium or high." enum:"low,medium,high" default:"medium" placeholder:"SEVERITY"`
}

// Bounds of looking through a repository.
const (
	maxLintEntries = 200_000 // files and directories; a large monorepo has about as many
	maxLintFiles   = 2_000
	maxLintBytes   = 2 << 20 // the parser takes less and says so
)

// lintResult is what lint found in all files.
type lintResult struct {
	findings []workflow.Finding // at least as severe as asked, those that are waived included
	invalid  []sallyport.Diagnostic
	files    int
	below    int // findings that are less severe
}

// standing are the findings that nobody waived.
func (r lintResult) standing() []workflow.Finding {
	return slices.DeleteFunc(slices.Clone(r.findings), func(f workflow.Finding) bool { return f.Waived != "" })
}

// Run looks through workflows. Exit codes: 0 nothing at or above the severity
// asked for, 1 findings, 2 usage or an invalid file.
func (c lintCmd) Run(e *env) error {
	r, err := c.look()
	if err != nil {
		return err
	}
	switch c.Format {
	case "json":
		err = r.printJSON(e.stdout)
	case "sarif":
		err = r.printSARIF(e.stdout)
	default:
		r.printText(e.stdout, e.stderr, c.Severity)
	}
	switch {
	case err != nil:
		return err
	case len(r.invalid) > 0:
		return exitError(exitUsage)
	case len(r.standing()) > 0:
		return exitError(exitFailed)
	}
	return nil
}

func (c lintCmd) look() (r lintResult, err error) {
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		return r, sallyport.Errorf(sallyport.CodeInvalid, "%s is not a directory that can be read", c.Dir)
	}
	defer root.Close()
	config, err := lintConfig(root, &r)
	if err != nil {
		return r, err
	}
	locked, err := lintLock(root)
	if err != nil {
		return r, err
	}
	files := c.Files
	if len(files) == 0 {
		if files, err = lintFiles(root); err != nil {
			return r, err
		}
	}
	now := time.Now()
	least := workflow.Severity(c.Severity)
	keep := func(found []workflow.Finding) {
		config.Waive(found, now)
		for _, f := range found {
			switch {
			case f.Severity.AtLeast(least):
				r.findings = append(r.findings, f)
			case f.Waived == "":
				r.below++
			}
		}
	}
	for _, file := range files {
		src, err := readRooted(root, filepath.ToSlash(file))
		if err != nil {
			return r, sallyport.Errorf(sallyport.CodeInvalid, "%s cannot be read: %v", file, reason(err)).
				WithHint("name files from the root of the repository, which -C names")
		}
		r.files++
		report := workflow.Lint(workflow.LintInput{
			Path: path.Clean(filepath.ToSlash(file)), Src: src, Labels: config.Labels, Locked: locked,
			ReadFile: func(name string) ([]byte, error) { return readRooted(root, name) },
		})
		r.invalid = append(r.invalid, report.Invalid...)
		keep(report.Findings)
	}
	keep(config.Expired(now))
	return r, nil
}

// lintConfig reads the repository's configuration; what is wrong with it makes
// the result invalid.
func lintConfig(root *os.Root, r *lintResult) (*workflow.LintConfig, error) {
	src, err := readRooted(root, workflow.LintConfigFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &workflow.LintConfig{}, nil
	case err != nil:
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s cannot be read: %v", workflow.LintConfigFile, reason(err))
	}
	config, diags := workflow.ParseLintConfig(src)
	if len(diags) > 0 || config == nil {
		r.invalid = append(r.invalid, diags...)
		return &workflow.LintConfig{}, nil
	}
	return config, nil
}

// lintLock reads the repository's lock of actions and tells what is in it.
func lintLock(root *os.Root) (func(uses string) bool, error) {
	src, err := readRooted(root, actions.LockPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s cannot be read: %v", actions.LockPath, reason(err))
	}
	lock, err := actions.Parse(src)
	return func(uses string) bool {
		ref, err := workflow.ParseReference(uses)
		if err != nil {
			return false
		}
		_, ok := lock.Find(ref.Repository, ref.Ref)
		return ok
	}, err
}

// reason is an error without the path that the caller names already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func readRooted(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	return io.ReadAll(io.LimitReader(f, maxLintBytes))
}

// lintFiles lists the workflows and the actions of a repository. Hidden
// directories other than .github are left out, and so are those that hold the
// code of others or examples for tests.
func lintFiles(root *os.Root) ([]string, error) {
	var out []string
	entries := 0
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if entries++; entries > maxLintEntries || len(out) > maxLintFiles {
			return sallyport.Errorf(sallyport.CodeInvalid, "the repository is too large to look through").WithHint("name the files")
		}
		switch {
		case err != nil:
			if name == "." {
				return err
			}
			return nil // a directory that may not be read holds nothing of ours
		case d.IsDir():
			base := path.Base(name)
			if name != "." && (strings.HasPrefix(base, ".") && base != ".github" || base == "node_modules" || base == "vendor" || base == "testdata") {
				return fs.SkipDir
			}
		case path.Dir(name) == ".github/workflows" && (path.Ext(name) == ".yml" || path.Ext(name) == ".yaml"), workflow.IsActionFile(name):
			out = append(out, name)
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		err = sallyport.Errorf(sallyport.CodeInvalid, "there are no workflows and no actions here").
			WithHint("workflows lie in .github/workflows of the repository, which -C names; or name the files")
	}
	return out, err
}

func (r lintResult) printText(out, talk io.Writer, least string) {
	for _, d := range r.invalid {
		fmt.Fprintf(out, "%s:%d:%d: error: %s [invalid]\n", plain(d.File), d.Pos.Line, d.Pos.Col, plain(d.Message))
	}
	count := map[workflow.Severity]int{}
	for _, f := range r.standing() {
		count[f.Severity]++
		fmt.Fprintf(out, "%s:%d:%d: %s: %s [%s]\n    mend: %s\n", plain(f.File), f.Pos.Line, f.Pos.Col, f.Severity, plain(f.Message), f.Rule, plain(f.Mend))
	}
	standing := len(r.standing())
	fmt.Fprintf(talk, "%d files: %d findings", r.files, standing)
	if standing > 0 {
		fmt.Fprintf(talk, " (%d high, %d medium, %d low)", count[workflow.SeverityHigh], count[workflow.SeverityMedium], count[workflow.SeverityLow])
	}
	if n := len(r.invalid); n > 0 {
		fmt.Fprintf(talk, ", %d errors", n)
	}
	if n := len(r.findings) - standing; n > 0 {
		fmt.Fprintf(talk, ", %d waived", n)
	}
	if r.below > 0 {
		fmt.Fprintf(talk, ", %d below %s (see them with --severity low)", r.below, least)
	}
	fmt.Fprintln(talk)
}

// printJSON writes a line for each finding and each error, and one that sums up.
func (r lintResult) printJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	for _, d := range r.invalid {
		if err := enc.Encode(map[string]any{"type": "error", "file": d.File, "line": d.Pos.Line, "column": d.Pos.Col, "message": d.Message}); err != nil {
			return err
		}
	}
	for _, f := range r.findings {
		line := struct {
			Type        string              `json:"type"`
			Rule        string              `json:"rule"`
			Severity    workflow.Severity   `json:"severity"`
			Confidence  workflow.Confidence `json:"confidence"`
			File        string              `json:"file"`
			Line        int                 `json:"line"`
			Column      int                 `json:"column"`
			Message     string              `json:"message"`
			Mend        string              `json:"mend"`
			Fingerprint string              `json:"fingerprint"`
			Waived      string              `json:"waived,omitempty"`
		}{"finding", f.Rule, f.Severity, f.Confidence, f.File, f.Pos.Line, f.Pos.Col, f.Message, f.Mend, f.Fingerprint, f.Waived}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	standing := len(r.standing())
	return enc.Encode(map[string]any{
		"type": "summary", "files": r.files, "errors": len(r.invalid), "findings": standing, "waived": len(r.findings) - standing, "below": r.below,
	})
}
