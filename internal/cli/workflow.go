package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/workflow"
)

type workflowCmd struct {
	Check workflowCheckCmd `cmd:"" help:"Check that workflow and action files are valid in GitHub's language."`
}

type workflowCheckCmd struct {
	Files []string `arg:"" name:"file" help:"Workflows and action files. What they use of their own repository is checked with them."`
	JSON  bool     `help:"Print a JSON line for each error and each warning." name:"json"`
}

// Run checks files. Exit codes: 0 all are valid, 2 one is not.
func (c workflowCheckCmd) Run(e *env) error {
	valid := true
	said := map[string]bool{} // files that several others use are checked with each
	enc := json.NewEncoder(e.stdout)
	for _, file := range c.Files {
		for _, d := range checkWorkflow(file) {
			valid = valid && d.Severity != "error"
			line := diagnosticLine(d)
			if said[line] {
				continue
			}
			said[line] = true
			fmt.Fprintln(e.stderr, line)
			if c.JSON {
				if err := enc.Encode(map[string]any{"file": d.File, "line": d.Pos.Line, "column": d.Pos.Col, "severity": d.Severity, "message": d.Message}); err != nil {
					return err
				}
			}
		}
	}
	if !valid {
		return exitError(exitUsage)
	}
	return nil
}

// diagnosticLine is a diagnostic as people read it; only what is no error says how bad it is.
func diagnosticLine(d sallyport.Diagnostic) string {
	line := fmt.Sprintf("%s:%d:%d: ", plain(d.File), d.Pos.Line, d.Pos.Col)
	if d.Severity != "error" {
		line += d.Severity + ": "
	}
	return line + plain(d.Message)
}

// checkWorkflow checks one file. Its repository is the nearest directory above
// it that holds .git or .github. Files are named as the caller named this one.
func checkWorkflow(file string) []sallyport.Diagnostic {
	fail := func(err error) []sallyport.Diagnostic {
		return []sallyport.Diagnostic{{File: file, Pos: sallyport.Pos{Line: 1, Col: 1}, Severity: "error", Message: fmt.Sprintf("it cannot be read: %v", reason(err))}}
	}
	base, top := repositoryOf(file)
	root, err := os.OpenRoot(base)
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	abs, err := filepath.Abs(file)
	if err != nil {
		return fail(err)
	}
	within, err := filepath.Rel(base, abs)
	if err != nil {
		return fail(err)
	}
	src, err := readNamed(file)
	if err != nil {
		return fail(err)
	}
	in := workflow.CheckInput{Path: filepath.ToSlash(within), Src: src}
	if top {
		in.ReadFile = func(name string) ([]byte, error) {
			b, err := readRooted(root, name)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, sallyport.Errorf(sallyport.CodeNotFound, "there is no file %s", name)
			}
			return b, err
		}
	}
	diags := workflow.Check(in)
	for i, d := range diags {
		diags[i].File = file
		if d.File != in.Path {
			diags[i].File = beside(base, d.File)
		}
	}
	return diags
}

// readNamed reads a file that the caller named, wherever it leads.
func readNamed(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return nil, errors.New("it is a directory: name the files in it")
	}
	return io.ReadAll(io.LimitReader(f, maxLintBytes))
}

// repositoryOf returns the nearest directory above a file that holds .git or
// .github, else the file's own directory and false.
func repositoryOf(file string) (dir string, ok bool) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return filepath.Dir(file), false
	}
	for dir = filepath.Dir(abs); ; dir = filepath.Dir(dir) {
		for _, mark := range []string{".git", ".github"} {
			if _, err := os.Stat(filepath.Join(dir, mark)); err == nil {
				return dir, true
			}
		}
		if dir == filepath.Dir(dir) {
			return filepath.Dir(abs), false
		}
	}
}

// beside names a file of a repository from the working directory, if it is below it.
func beside(base, name string) string {
	abs := filepath.Join(base, filepath.FromSlash(name))
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, abs); err == nil && filepath.IsLocal(rel) {
			return rel
		}
	}
	return abs
}
