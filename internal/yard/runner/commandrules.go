package runner

import (
	"path"
	"regexp"
	"strings"
)

// interpreters run what they are given as text, on the command line or on standard
// input, or run the command that they are given.
var interpreters = set(`
	. alias ash awk at batch bash bc bind builtin bun bunx busybox chroot chrt clojure command compgen complete coproc crontab csh dash
	dbus-run-session dc deno doas dumb-init ed elixir emacs enable entr env erl eval ex exec expect fc find fish flock ftp gawk gdb
	ghci gnuplot gosu groovy hash hyperfine iex ionice irb jobs jshell julia just ksh let lua m4 make mapfile mariadb mawk mksh mysql
	nawk newgrp nice node nodejs nohup npx nsenter octave osascript parallel perl php pipx pkexec powershell psql pwsh python r rbash
	read readarray rscript ruby runuser screen script sed setarch setsid sg sh source sqlite ssh stdbuf strace su su-exec sudo
	systemd-run taskset tcl tclsh tcsh time timeout tini tmux trap ts-node tsx unbuffer unset unshare uvx vi vim watch xargs xvfb-run zsh`)

// readers are those of them that take what is redirected to them as data, when the program
// is not read from a file.
var readers = set("awk gawk mapfile mawk nawk read readarray sed")

// codeFlags announce code in the word after them, whatever the command is.
var codeFlags = set("-c --command --eval --exec -exec -execdir -ok -okdir")

// declarations are the builtins that assign to the names they are given.
var declarations = set("declare export local readonly typeset")

// evaluatingOperators of [[ ]] evaluate their operands as arithmetic, in which a
// subscript may run a command.
var evaluatingOperators = map[string]bool{
	"-eq": true, "-ne": true, "-lt": true, "-le": true, "-gt": true, "-ge": true, "-v": true, "-R": true,
}

func set(words string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(words) {
		out[w] = true
	}
	return out
}

// pipesIntoInterpreter finds a pipe into something that reads a program from
// standard input: a shell without a script, an interpreter without a program, or what makes
// commands of its input. It is not exact: it rather finds too much.
var pipesIntoInterpreter = regexp.MustCompile(`(?:\|&?[\s\\]*|>\()(?:[^|;\n]*?[\s/"'=({\\])?(?:` +
	`(?:ba|da|z|k|c|tc|a|fi)?sh(?:\s*(?:$|[;&|)}<>#\n\x60"'])|\s+-)|` +
	`(?:python[0-9.]*|perl|ruby|node|nodejs|php|lua)(?:\s*(?:$|[;&|)}<>#\n\x60"'])|\s+-(?:\s|$))|` +
	`(?:psql|mysql|mariadb|sqlite3|xargs|parallel|ssh|at|batch|source|eval)\b)`)

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*\+?=`)

// isAssignment reports whether a word that begins so assigns to a variable.
func isAssignment(plain string) bool { return assignment.MatchString(plain) }

// call takes the command's name. Of one that begins with a variable directory the
// rest tells enough.
func (c *command) call(w word) {
	base := w.text[strings.LastIndexByte(w.text, '/')+1:]
	c.named, c.name = true, w.text
	c.unknown = w.text != "[" && strings.ContainsAny(base, "{}*?[]~!"+string(dynamic)) || strings.HasPrefix(base, "-")
}

// add adds a word after the command's name.
func (c *command) add(w word) {
	if len(c.words) == maxWords {
		c.unknown = true
		return
	}
	c.words = append(c.words, w.text)
}

// kind returns the command's name without directory and version.
func kind(name string) string {
	base := strings.ToLower(path.Base(name))
	return strings.TrimRight(base, "0123456789.")
}

// oneWord reports whether a value outside of quotes must stay one word: it is assigned or
// compared, where splitting would change what else is there.
func (c *command) oneWord() bool {
	return c.cond || isAssignment(c.plain) || c.named && (c.name == "[" || c.name == "test" || c.name == "case")
}

// objection says why a value that someone else chose must not be in the present
// word; "" if it may.
func (c *command) objection() string {
	switch {
	case c.cond:
		return "" // condition judges it
	case c.target && !c.named:
		return "it stands in a redirection before the command"
	case !c.named && isAssignment(c.plain):
		name, _, _ := strings.Cut(strings.TrimSuffix(c.plain, "+"), "=")
		if steersEnv(strings.TrimSuffix(name, "+")) {
			return "it is assigned to a variable that changes how commands run"
		}
		return ""
	case !c.named:
		return "it is part of a command's name"
	case c.unknown:
		return "the command that would get it is not known in advance"
	}
	switch name := kind(c.name); {
	case name == "echo":
		return ""
	case name == "printf":
		return c.formatObjection()
	case declarations[name]:
		return c.declarationObjection()
	case c.target && readers[name] && !c.hasProgramFile():
		return ""
	case name == "" || interpreters[name]:
		return "the command runs what it is given as text"
	case c.name == "[" || c.name == "test":
		// An operand before it could turn out to be an operator that evaluates.
		if n := len(c.words); n > 0 && strings.Trim(c.words[n-1], string(dynamic)) == "" {
			return "the test may evaluate it"
		}
	}
	for _, w := range c.words {
		switch {
		case evaluatingTest(c.name, w):
			return "the test evaluates it"
		case codeFlags[w], interpreters[kind(w)] && !data[kind(c.name)]:
			return "the command may run what it is given as text"
		}
	}
	return ""
}

// hasProgramFile reports whether the program comes from a file, which could be standard input.
func (c *command) hasProgramFile() bool {
	for _, w := range c.words {
		if strings.HasPrefix(w, "-f") || strings.HasPrefix(w, "--f") || strings.IndexByte(w, dynamic) == 0 || strings.HasPrefix(w, "-C") {
			return true
		}
	}
	return false
}

// integers reports whether a declaration makes variables that are evaluated when
// they are assigned to, or may do so.
func (c *command) integers() bool {
	if !declarations[kind(c.name)] {
		return false
	}
	for _, w := range c.words {
		if strings.HasPrefix(w, "-") && strings.ContainsAny(w, "in") || strings.IndexByte(w, dynamic) == 0 {
			return true
		}
	}
	return false
}

// data are commands that only ever take their arguments as data.
var data = set("[ case cat cd cp for git grep ls mkdir mv rm rmdir select set tee test touch")

func evaluatingTest(name, word string) bool {
	return (name == "[" || name == "test") && (word == "-v" || word == "-R")
}

// formatObjection is that of printf: its format must be known, and must
// not name a variable to assign to.
func (c *command) formatObjection() string {
	if c.target {
		return ""
	}
	for i, w := range c.words {
		switch {
		case i == 0 && w == "--":
		case strings.HasPrefix(w, "-") || strings.Contains(w, "%n") || strings.IndexByte(w, dynamic) >= 0:
			return "it may be the format of printf"
		default:
			return ""
		}
	}
	return "it may be the format of printf"
}

// declarationObjection is that of export and its like: the name must be known, and
// the value must not be evaluated.
func (c *command) declarationObjection() string {
	for _, w := range c.words {
		option := strings.HasPrefix(w, "-") && strings.Trim(w, "-gxr") != "" || strings.HasPrefix(w, "+")
		if option || !isAssignment(w) && strings.IndexByte(w, dynamic) >= 0 {
			return "the declaration may evaluate it"
		}
	}
	name, _, found := strings.Cut(c.plain, "=")
	if !found || !isAssignment(c.plain) {
		return "it may be the name of a variable"
	}
	if steersEnv(strings.TrimSuffix(name, "+")) {
		return "it is assigned to a variable that changes how commands run"
	}
	return ""
}
