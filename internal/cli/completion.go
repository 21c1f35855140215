package cli

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/sallyport-ci/sallyport/internal/daemon"
)

type versionCmd struct{ output }

func (c versionCmd) Run(e *env) error {
	v := daemon.Version()
	return c.print(e, map[string]string{"version": v, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}, func(w io.Writer) {
		fmt.Fprintf(w, "sallyport %s (%s, %s/%s)\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	})
}

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints a script made from the command line's own model, so that it never lags behind.
func (c completionCmd) Run(e *env) error {
	words := make(map[string][]string) // command path to what may follow
	walk(e.model.Node, "", words)
	switch c.Shell {
	case "bash":
		bashCompletion(e.stdout, words)
	case "zsh":
		fmt.Fprintln(e.stdout, "#compdef sallyport\nautoload -U +X bashcompinit && bashcompinit")
		bashCompletion(e.stdout, words)
	case "fish":
		fishCompletion(e.stdout, words)
	}
	return nil
}

func walk(n *kong.Node, path string, words map[string][]string) {
	var next []string
	for _, child := range n.Children {
		if child.Hidden || child.Type != kong.CommandNode {
			continue
		}
		next = append(next, child.Name)
		walk(child, strings.TrimSpace(path+" "+child.Name), words)
	}
	for _, f := range n.Flags {
		if !f.Hidden {
			next = append(next, "--"+f.Name)
		}
	}
	slices.Sort(next)
	words[path] = next
}

func paths(words map[string][]string) []string {
	var all []string
	for p := range words {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

func bashCompletion(w io.Writer, words map[string][]string) {
	fmt.Fprint(w, `_sallyport() {
  local cur="${COMP_WORDS[COMP_CWORD]}" path="" w i
  for ((i = 1; i < COMP_CWORD; i++)); do
    w="${COMP_WORDS[i]}"
    case "$path $w" in
`)
	for _, p := range paths(words) {
		if p == "" {
			continue
		}
		parent, last := "", p
		if i := strings.LastIndexByte(p, ' '); i >= 0 {
			parent, last = p[:i], p[i+1:]
		}
		fmt.Fprintf(w, "      %q) path=%q ;;\n", parent+" "+last, p)
	}
	fmt.Fprint(w, "    esac\n  done\n  case \"$path\" in\n")
	for _, p := range paths(words) {
		fmt.Fprintf(w, "    %q) COMPREPLY=($(compgen -W %q -- \"$cur\")) ;;\n", p, strings.Join(words[p], " "))
	}
	fmt.Fprint(w, "  esac\n}\ncomplete -o default -F _sallyport sallyport\n")
}

func fishCompletion(w io.Writer, words map[string][]string) {
	fmt.Fprintln(w, "complete -c sallyport -f")
	for _, p := range paths(words) {
		condition := "__fish_use_subcommand"
		if p != "" {
			var seen []string
			for c := range strings.FieldsSeq(p) {
				seen = append(seen, "__fish_seen_subcommand_from "+c)
			}
			condition = strings.Join(seen, "; and ")
		}
		for _, word := range words[p] {
			if flag, ok := strings.CutPrefix(word, "--"); ok {
				fmt.Fprintf(w, "complete -c sallyport -n %q -l %s\n", condition, flag)
			} else {
				fmt.Fprintf(w, "complete -c sallyport -n %q -a %s\n", condition, word)
			}
		}
	}
}
