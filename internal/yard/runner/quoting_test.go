package runner

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fillAll fills the holes of a script, written @, with ${V1}, ${V2}, …
func fillAll(script string, posix bool) (out string, why string) {
	src := strings.ReplaceAll(script, "@", string(hole))
	fills, bad, why := scan(src, posix)
	if bad >= 0 {
		return "", fmt.Sprintf("%d: %s", bad, why)
	}
	for i, f := range fills {
		src = strings.Replace(src, string(hole), f.text(fmt.Sprintf("V%d", i+1)), 1)
	}
	return src, ""
}

func TestFill(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ script, want string }{
		{`echo @`, `echo ${V1}`},
		{`echo "a @ b"`, `echo "a ${V1} b"`},
		{`echo 'a @ b'`, `echo 'a '"${V1}"' b'`},
		{`echo a@b"c@d"'e@f'`, `echo a${V1}b"c${V2}d"'e'"${V3}"'f'`},
		{"echo one\necho @ # two\n", "echo one\necho ${V1} # two\n"},
		{`x=@`, `x="${V1}"`},
		{`x="@" cmd; y+=@`, `x="${V1}" cmd; y+="${V2}"`},
		{`export X=@ Y="@"`, `export X="${V1}" Y="${V2}"`},
		{`export A="$B" X="@"`, `export A="$B" X="${V1}"`},
		{`git commit -m "@"`, `git commit -m "${V1}"`},
		{`git commit -m '@' --author=x`, `git commit -m ''"${V1}"'' --author=x`},
		{`x=$(echo "@" | tr a b)`, `x=$(echo "${V1}" | tr a b)`},
		{`x="$(echo '@')"`, `x="$(echo ''"${V1}"'')"`},
		{`if [ @ = main ]; then echo yes; fi`, `if [ "${V1}" = main ]; then echo yes; fi`},
		{`if [[ @ == release/* && "@" != x ]]; then echo @; fi`, `if [[ "${V1}" == release/* && "${V2}" != x ]]; then echo ${V3}; fi`},
		{`[[ @ =~ ^(a|b)$ ]] || echo "@"`, `[[ "${V1}" =~ ^(a|b)$ ]] || echo "${V2}"`},
		{`x=$([[ "@" ]]); ([[ a ]]) && echo @`, `x=$([[ "${V1}" ]]); ([[ a ]]) && echo ${V2}`},
		{`for x in @ b; do echo "$x"; done`, `for x in ${V1} b; do echo "$x"; done`},
		{`for ((i=0;i<3;i++)); do echo "@"; done`, `for ((i=0;i<3;i++)); do echo "${V1}"; done`},
		{`case "@" in a|b) echo a;; *) echo "@";; esac; echo @`, `case "${V1}" in a|b) echo a;; *) echo "${V2}";; esac; echo ${V3}`},
		{"case @ in\n  (main)\n    echo @ ;;\nesac\n", "case \"${V1}\" in\n  (main)\n    echo ${V2} ;;\nesac\n"},
		{"cat <<EOF\n@ \"@\" '@'\nEOF\necho @", "cat <<EOF\n${V1} \"${V2}\" '${V3}'\nEOF\necho ${V4}"},
		{"cat <<-EOF > f\n\ta @\n\tEOF\necho '@'", "cat <<-EOF > f\n\ta ${V1}\n\tEOF\necho ''\"${V2}\"''"},
		{"cat <<A <<'B'\n@\nA\nit's\nB\necho '@'", "cat <<A <<'B'\n${V1}\nA\nit's\nB\necho ''\"${V2}\"''"},
		{"x=$(cat <<EOF\n@\nEOF\n)\necho @", "x=$(cat <<EOF\n${V1}\nEOF\n)\necho ${V2}"},
		{`echo "@" >> "$GITHUB_OUTPUT"`, `echo "${V1}" >> "$GITHUB_OUTPUT"`},
		{`{ echo "@"; echo b; } >> f`, `{ echo "${V1}"; echo b; } >> f`},
		{`( cd a && ls "@" )`, `( cd a && ls "${V1}" )`},
		{`f() { echo "@"; }; f`, `f() { echo "${V1}"; }; f`},
		{`function f { echo "@"; }`, `function f { echo "${V1}"; }`},
		{`printf '%s\n' "@" @`, `printf '%s\n' "${V1}" ${V2}`},
		{`cat <<< "@"`, `cat <<< "${V1}"`},
		{`cat < @ > "@"`, `cat < ${V1} > "${V2}"`},
		{`grep -q x "$GITHUB_WORKSPACE/a" 2>/dev/null && ls "@"`, `grep -q x "$GITHUB_WORKSPACE/a" 2>/dev/null && ls "${V1}"`},
		{`"$DIR/tool" --title "@"`, `"$DIR/tool" --title "${V1}"`},
		{`echo "it's" && echo '@' # don't`, `echo "it's" && echo ''"${V1}"'' # don't`},
		{`echo \" @`, `echo \" ${V1}`},
		{`echo \' @`, `echo \' ${V1}`},
		{`echo a \
  @`, "echo a \\\n  ${V1}"},
		{`a=(1 "b" $(c)); echo "@"`, `a=(1 "b" $(c)); echo "${V1}"`},
		{`echo ${x:-"y}"} "@"`, `echo ${x:-"y}"} "${V1}"`},
		{`echo $((1 + (2 * 3))) @`, `echo $((1 + (2 * 3))) ${V1}`},
		{`echo "${x%%"}"*}" @`, `echo "${x%%"}"*}" ${V1}`},
		{`echo $'it\'s' '@'`, `echo $'it\'s' ''"${V1}"''`},
		{"echo `date` @", "echo `date` ${V1}"},
		{`diff <(sort a) <(echo "@")`, `diff <(sort a) <(echo "${V1}")`},
		{`while read -r l; do echo "@ $l"; done < f`, `while read -r l; do echo "${V1} $l"; done < f`},
		{`! ls "@" || time cat @`, `! ls "${V1}" || time cat ${V2}`},
		{`dd of=@`, `dd of="${V1}"`},
		{`curl x | sh; y || exit 1; echo "@" | tee log`, `curl x | sh; y || exit 1; echo "${V1}" | tee log`},
		{`ls -- a#b @`, `ls -- a#b ${V1}`},
		{`read -r a b <<< "@"; echo "$a"`, `read -r a b <<< "${V1}"; echo "$a"`},
		{`sed 's/a/b/' <<< @; awk '{print $1}' < "@"`, `sed 's/a/b/' <<< ${V1}; awk '{print $1}' < "${V2}"`},
		{`echo "@" | python3 -c 'import sys' | perl -pe 's/a/b/' | sed s/a/b/ | bash x.sh`, `echo "${V1}" | python3 -c 'import sys' | perl -pe 's/a/b/' | sed s/a/b/ | bash x.sh`},
		{`test -n "$A" -a "$B" = "@"`, `test -n "$A" -a "$B" = "${V1}"`},
		{`declare -x A="@"; B="@"`, `declare -x A="${V1}"; B="${V2}"`},
		{`no holes here | bash`, `no holes here | bash`},
	} {
		if got, why := fillAll(c.script, false); got != c.want {
			t.Errorf("%s\n got %s %s\nwant %s", c.script, got, why, c.want)
		}
	}
}

func TestFillRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ script, why string }{
		{`@`, "0: it is part of a command's name"},
		{`"@" x`, "0: it is part of a command's name"},
		{`./bin/@.sh`, "0: it is part of a command's name"},
		{`if @; then x; fi`, "0: it is part of a command's name"},
		{`echo ok; @`, "0: it is part of a command's name"},
		{`X=1 @`, "0: it is part of a command's name"},
		{`$(echo @) x`, "0: it is part of a command's name"},
		{`"$(echo '@')"`, "0: it is part of a command's name"},
		{`eval "echo @"`, "0: the command runs"},
		{`eval "$(echo "@")"`, "0: the command runs"},
		{`bash -c "echo @"`, "0: the command runs"},
		{`sh -c 'echo @'`, "0: the command runs"},
		{`/bin/bash -c 'echo @'`, "0: the command runs"},
		{`sudo ls "@"`, "0: the command runs"},
		{`docker run x sh -c "echo @"`, "0: the command may run"},
		{`foo -c "@"`, "0: the command may run"},
		{`python3.11 -c "print('@')"`, "0: the command runs"},
		{`perl -e 'print "@"'`, "0: the command runs"},
		{`trap "echo @" EXIT`, "0: the command runs"},
		{`source "@"`, "0: the command runs"},
		{`. @`, "0: the command runs"},
		{`xargs echo <<< "@"`, "0: the command runs"},
		{`sed "s/x/@/" f`, "0: the command runs"},
		{`awk '{print "@"}' f`, "0: the command runs"},
		{`find . -name "@"`, "0: the command runs"},
		{`unset "@"`, "0: the command runs"},
		{`let x=@`, "0: the command runs"},
		{`read "@"`, "0: the command runs"},
		{`make X="@"`, "0: the command runs"},
		{`$CMD "@"`, "0: the command that would get it is not known"},
		{`$X/bin/$Y "@"`, "0: the command that would get it is not known"},
		{`export @`, "0: it may be the name"},
		{`export "@"`, "0: it may be the name"},
		{`declare -i x=@`, "0: the declaration may evaluate"},
		{`declare -n x=@`, "0: the declaration may evaluate"},
		{`declare $O x=@`, "0: the declaration may evaluate"},
		{`x[@]=1`, "0: it is part of a command's name"},
		{`PATH=@:$PATH`, "0: it is assigned to a variable that"},
		{`export BASH_ENV="@"`, "0: it is assigned to a variable that"},
		{`printf "@"`, "0: it may be the format"},
		{`printf @ x`, "0: it may be the format"},
		{`printf "$f" "@"`, "0: it may be the format"},
		{`printf -v x '%s' "@"`, "0: it may be the format"},
		{`printf '%n' "@"`, "0: it may be the format"},
		{`[[ "@" -eq 1 ]]`, "0: [[ ]] compares numbers"},
		{`[[ -v @ ]]`, "0: [[ ]] compares numbers"},
		{`[ -v "@" ]`, "0: the test evaluates"},
		{`echo $((@ + 1))`, "0: it stands in an arithmetic"},
		{`((x = @))`, "0: it stands in an arithmetic"},
		{`for ((i=@;;)); do :; done`, "0: it stands in an arithmetic"},
		{`echo $[@]`, "0: it stands after $["},
		{`echo ${x:-@}`, "0: it stands in ${ }"},
		{`echo "${x:-"@"}"`, "0: it stands in ${ }"},
		{"echo `echo @`", "0: it stands in backquotes"},
		{"echo \"`echo @`\"", "0: it stands in backquotes"},
		{`echo $'@'`, "0: it stands in $' '"},
		{`echo $"@"`, `0: it stands in $" "`},
		{`echo $@x`, "0: a $ stands before it"},
		{`echo "$@x"`, "0: a $ stands before it"},
		{`echo \@`, "0: a backslash stands before it"},
		{`echo "\@"`, "0: a backslash stands before it"},
		{"cat <<EOF\n\\@\nEOF", "0: a backslash stands before it"},
		{`# @`, "0: it stands in a comment"},
		{`echo "@" # @`, "1: it stands in a comment"},
		{"cat <<'EOF'\n@\nEOF", "0: it stands in a here-document with a quoted delimiter"},
		{"cat <<\"EOF\"\n@\nEOF", "0: it stands in a here-document with a quoted delimiter"},
		{"cat <<E'O'F\n@\nEOF", "0: it stands in a here-document with a quoted delimiter"},
		{"cat <<@\n@\nEOF", "0: the delimiter"},
		{"cat <<EOF\n$(eval @)\nEOF", "0: the command runs"},
		{"cat <<EOF\n`@`\nEOF", "0: it stands in backquotes"},
		{"cat <<EOF\n${x:-@}\nEOF", "0: it stands in ${ }"},
		{"cat <<EOF\n@\n", "0: a here-document does not end"},
		{"cat <<EOF\na\\\nEOF\n@\nEOF", "0: a line of a here-document ends with a backslash"},
		{"bash <<EOF\n@\nEOF", "0: the command runs"},
		{"python3 - <<EOF\nprint('@')\nEOF", "0: the command runs"},
		{"cat <<EOF | bash\n@\nEOF", "0: the here-document is piped"},
		{"cat <<EOF |\n@\nEOF\nbash", "0: the here-document is piped"},
		{`echo "@" | bash`, "0: the script pipes"},
		{`echo "@" | sudo sh -s -- x`, "0: the script pipes"},
		{"echo \"@\" |\n  bash", "0: the script pipes"},
		{`{ echo "@"; } | bash`, "0: the script pipes"},
		{`for x in a; do echo "@"; done | python3`, "0: the script pipes"},
		{`echo "@" | xargs -n1 echo`, "0: the script pipes"},
		{`echo "@" | tee >(bash)`, "0: the script pipes"},
		{`bash <(echo "@")`, "0: the command runs"},
		{`source /dev/stdin <<< "@"`, "0: the command runs"},
		{`<<< "@" bash`, "0: it stands in a redirection before the command"},
		{`> "@"`, "0: it stands in a redirection before the command"},
		{`case x in @) y;; esac`, "0: it is part of a pattern"},
		{`a=(@)`, "0: it is assigned to an array"},
		{`a=("@")`, "0: it is assigned to an array"},
		{`time -p @`, "0: the command that would get it is not known"},
		{`{eval,x} "@"`, "0: the command that would get it is not known"},
		{`ev* "@"`, "0: the command that would get it is not known"},
		{`e'v'al "@"`, "0: the command runs"},
		{`\eval "@"`, "0: the command runs"},
		{`[ "@" "@" ]`, "1: the test may evaluate"},
		{`test "$op" "@"`, "0: the test may evaluate"},
		{`declare -i n=0; n="@"`, "0: the script declares variables"},
		{`local -n r=x; r=@`, "0: the script declares variables"},
		{`sed -f - <<< "@"`, "0: the command runs"},
		{`hash -p "@" ls`, "0: the command runs"},
		{`npx "@"`, "0: the command runs"},
		{`echo "@" | xargs rm`, "0: the script pipes"},
		{`echo "@" | python3 - x`, "0: the script pipes"},
		{`echo "@" | sudo bash -x`, "0: the script pipes"},
		{`coproc echo "@"`, "0: it stands in a coprocess"},
		{`echo !(a) "@"`, "0: a ( stands where"},
		{`echo a) "@"`, "0: a ) has no ("},
		{`echo "${x#'}'}" "@"`, "0: a single quote stands in ${ }"},
		{`echo() { eval "$1"; }; echo "@"`, "0: the script defines a command echo"},
		{`function printf { :; }; printf '%s' "@"`, "0: the script defines a command printf"},
		{strings.Repeat("$(", 100) + "echo @" + strings.Repeat(")", 100), "0: it is nested too deep"},
		{`echo @` + strings.Repeat(" ", maxScanned), "0: the script is too long"},
		{`echo ` + strings.Repeat("@ ", maxHoles+1), "0: the script is too long"},
	} {
		if got, why := fillAll(c.script, false); !strings.HasPrefix(why, c.why) {
			t.Errorf("%.200s\n got %.200q %q\nwant %q", c.script, got, why, c.why)
		}
	}
	for _, script := range []string{`echo $'a\' '@'`, `cat <(ls) "@"`, `[[ a && "@" ]]`, `function f { echo "@"; }`, `x+=@`} {
		if got, why := fillAll(script, true); why == "" {
			t.Errorf("sh: %s was filled: %s", script, got)
		}
	}
}

// hostile are values that run a command wherever they are pasted or evaluated.
var hostile = []string{
	"$(touch pwned)", "`touch pwned`", "; touch pwned;", "\ntouch pwned\n", `"; touch pwned; "`, `'; touch pwned; '`,
	`" && touch pwned && "`, "| touch pwned", "a[$(touch pwned)]", "\\$(touch pwned)", `'"$(touch pwned)"'`, "EOF\ntouch pwned\n",
	") ; touch pwned; (", "${x:=$(touch pwned)}", "$((a[$(touch pwned)]))", "} ; touch pwned; {", "]] ; touch pwned; [[ x",
	"x' ; touch pwned #", "-v a[$(touch pwned)]", "%n", "&& touch pwned", "esac; touch pwned", "! -x $(touch pwned)", "\\", "\"", "'",
}

// TestFillInShells fills what real shells then run, and looks whether any value got to run.
func TestFillInShells(t *testing.T) {
	t.Parallel()
	scripts := []string{
		`echo @`, `echo "@"`, `echo '@'`, `echo a@b"@"'@'`, `x=@; echo "$x"`, `x="$(echo "@")"`, `x=$(printf '%s' '@')`,
		"cat <<EOF\n@\n\"@\"\n'@'\nEOF\n", "cat <<-EOF\n\t@\n\tEOF\n", "x=$(cat <<EOF\n@\nEOF\n)\n", `if [ @ = main ]; then echo; fi`,
		`[ "@" = a ] || [ -n '@' ] || true`, `case @ in main) echo m;; *) echo "@";; esac`, `for x in @; do echo "$x"; done`,
		`export X=@; echo "$X"`, `( echo @ ); { echo '@'; }`, `f() { echo "$1@"; }; f "@"`, `printf '%s\n' "@" @`, `echo "@" > out; cat out`,
		`test "@" != x`, `set -- @; echo "$#"`, `echo "$(echo "$(echo '@')")"`, `x='@'; echo "$x"`, `ls -d "@" 2>/dev/null || true`,
		`echo "@" | tr a b | cat`, `X="@" true`,
	}
	bashOnly := []string{
		`[[ @ == main ]] || echo "@"`, `[[ "@" =~ ^a(b|c)$ ]] || true`, `cat <<< @`, `cat <(echo "@")`, `declare X="@"; echo "$X"`, `echo "@" &> out`,
		`for ((i=0;i<2;i++)); do echo @; done`, `read -r a b <<< "@"; echo "$a"`, `mapfile -t x <<< "@"; echo "${x[0]}"`,
		`sed 's/a/b/' <<< "@"`, `awk '{print $1}' <<< "@"`, `test -n "$A" -a "$B" = "@" || true`, `x+=@; echo "$x"`,
	}
	for _, sh := range []string{"bash", "sh"} {
		bin, err := exec.LookPath(sh)
		if err != nil {
			t.Skipf("no %s: %v", sh, err)
		}
		for _, script := range append(scripts, bashOnly...) {
			posix := sh == "sh"
			if posix && !strings.Contains(strings.Join(scripts, "\x00"), script) {
				continue
			}
			filled, why := fillAll(script, posix)
			if why != "" {
				t.Errorf("%s: %s was refused: %s", sh, script, why)
				continue
			}
			for _, value := range hostile {
				dir := t.TempDir()
				cmd := exec.Command(bin, "-c", filled)
				cmd.Dir = dir
				cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
				for n := range 4 {
					cmd.Env = append(cmd.Env, fmt.Sprintf("V%d=%s", n+1, value))
				}
				out, _ := cmd.CombinedOutput() // what is tested is that nothing else runs
				if _, err := os.Lstat(filepath.Join(dir, "pwned")); err == nil {
					t.Errorf("%s: %s with %q ran it: %s", sh, filled, value, out)
				}
			}
		}
	}
}

// TestPasteRuns is the control: pasted, the same values do run.
func TestPasteRuns(t *testing.T) {
	t.Parallel()
	ran := 0
	for _, value := range hostile {
		dir := t.TempDir()
		cmd := exec.Command("bash", "-c", strings.ReplaceAll("echo @\necho \"@\"\necho '@'", "@", value))
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH")}
		_ = cmd.Run()
		if _, err := os.Lstat(filepath.Join(dir, "pwned")); err == nil {
			ran++
		}
	}
	if ran < len(hostile)/2 {
		t.Errorf("only %d of %d values run when they are pasted: they prove nothing", ran, len(hostile))
	}
}

func FuzzScan(f *testing.F) {
	for _, s := range []string{"echo @", "cat <<E\n@\nE\n", "case @ in a) b;; esac", "[[ @ ]]", "a=(@)", "$((@))", "${x@}", "`@`", "x() { @"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, script string, posix bool) {
		src := strings.ReplaceAll(script, "@", string(hole))
		fills, bad, why := scan(src, posix)
		if n := strings.Count(src, string(hole)); len(fills) != n || bad >= n || bad < 0 != (why == "") {
			t.Errorf("%q: %d fills for %d holes, bad %d, why %q", script, len(fills), n, bad, why)
		}
	})
}
