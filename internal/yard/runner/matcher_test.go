package runner

import (
	"fmt"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

func TestProblemMatchers(t *testing.T) {
	t.Parallel()
	const gcc = `{"problemMatcher":[{"owner":"gcc","pattern":[{"regexp":"^(.*):(\\d+):(\\d+):\\s+(warning|error|fatal error):\\s+(.*)$","file":1,"line":2,"column":3,"severity":4,"message":5}]}]}`
	const eslint = `{"problemMatcher":[{"owner":"eslint","severity":"warning","pattern":[
		{"regexp":"^([^\\s].*)$","file":1},
		{"regexp":"^\\s+(\\d+):(\\d+)\\s+(?:(error|warning)\\s+)?(.*)\\s\\s+(.*)$","line":1,"column":2,"severity":3,"message":4,"code":5,"loop":true}]}]}`
	for _, c := range []struct {
		name, matcher, run string
		want               []sallyport.Annotation
		log                []string // with their kinds, in order
		outcome            sallyport.Conclusion
	}{
		{name: "one line", matcher: gcc, run: `
printf 'src/a.c:3:4: error: no \033[31mcolour\033[0m\nother line\n'
printf '%s/src/a.c:5:6: warning: absolute\n' "$PWD"
echo 'nowhere.c:1:2: error: no such file'
printf 'src/a.c:7:8: error: without line end'
`, want: []sallyport.Annotation{
			{Level: "error", Message: "no colour", File: "src/a.c", Line: 3, Col: 4}, {Level: "warning", Message: "absolute", File: "src/a.c", Line: 5, Col: 6},
			{Level: "error", Message: "no such file", Line: 1, Col: 2}, {Level: "error", Message: "without line end", File: "src/a.c", Line: 7, Col: 8}},
			log: []string{"|other line"}},
		{name: "several lines with a loop", matcher: eslint, run: `
printf 'src/a.c\n  12:7  error  bad thing  no-bad\n  13:1  warning  odd thing  no-odd\n  14:2  nothing said  no-word\n\nsrc/b.c\n  1:1  error  other  x\nend\n  2:2  error  after the end  y\n'
`, want: []sallyport.Annotation{
			{Level: "error", Message: "bad thing", Title: "no-bad", File: "src/a.c", Line: 12, Col: 7},
			{Level: "warning", Message: "odd thing", Title: "no-odd", File: "src/a.c", Line: 13, Col: 1},
			{Level: "warning", Message: "nothing said", Title: "no-word", File: "src/a.c", Line: 14, Col: 2},
			{Level: "error", Message: "other", Title: "x", Line: 1, Col: 1},
			{Level: "error", Message: "after the end", Title: "y", Line: 2, Col: 2}}, // "end" began another
			log: []string{"|src/a.c", "error|  12:7  error  bad thing  no-bad", "warning|  13:1  warning  odd thing  no-odd", "|src/b.c"}},
		{name: "fromPath and the end of a range", matcher: `{"problemMatcher":[{"owner":"x","pattern":[{"regexp":"^(\\S+) in (\\S+) (\\d+)-(\\d+): (.*)$","file":1,"fromPath":2,"line":3,"endLine":4,"message":5}]}]}`,
			run: "echo 'a.c in src/project.x 2-4: m'", want: []sallyport.Annotation{{Level: "error", Message: "m", File: "src/a.c", Line: 2, EndLine: 4}}},
		{name: "secrets", matcher: gcc, run: `echo "src/a.c:1:1: error: it is hunter2-hunter2"`, want: []sallyport.Annotation{{Level: "error", Message: "it is ***", File: "src/a.c", Line: 1, Col: 1}},
			log: []string{"error|src/a.c:1:1: error: it is ***"}},
		{name: "removed", matcher: gcc, run: "echo ::remove-matcher owner=GCC::\necho 'src/a.c:1:1: error: x'", log: []string{"|src/a.c:1:1: error: x"}},
		{name: "commands go first", matcher: `{"problemMatcher":[{"owner":"all","pattern":[{"regexp":"(.*)","message":1}]}]}`, run: "echo ::warning::w\necho ' '\necho x",
			want: []sallyport.Annotation{{Level: "warning", Message: "w"}, {Level: "error", Message: "x"}}, log: []string{"warning|w", "| ", "error|x"}},
		{name: "a replaced owner", matcher: gcc, run: "echo '" + strings.ReplaceAll(`{"problemMatcher":[{"owner":"gcc","severity":"notice","pattern":[{"regexp":"^N (.*)","message":1}]}]}`, "\n", "") + "' > m2.json\necho ::add-matcher::m2.json\necho 'N new'\necho 'src/a.c:1:1: error: old'",
			want: []sallyport.Annotation{{Level: "notice", Message: "new"}}, log: []string{"notice|N new", "|src/a.c:1:1: error: old"}},
		{name: "JavaScript alone", matcher: `{"problemMatcher":[{"owner":"js","pattern":[{"regexp":"^(?=x)(.*)$","message":1}]}]}`, run: "echo x", log: []string{"|x"}, outcome: sallyport.Success},
		{name: "no file", matcher: gcc, run: "echo ::add-matcher::none.json", outcome: sallyport.Failure},
		{name: "a file outside", matcher: gcc, run: "ln -s /etc/passwd out.json; echo ::add-matcher::/etc/passwd; echo ::add-matcher::out.json", outcome: sallyport.Failure},
		{name: "no JSON", matcher: `{`, run: "echo x", outcome: sallyport.Failure},
		{name: "a loop that is not last", matcher: `{"problemMatcher":[{"owner":"x","pattern":[{"regexp":"a","message":0,"loop":true},{"regexp":"b"}]}]}`, run: "echo x", outcome: sallyport.Failure},
		{name: "a line that is too long", matcher: gcc, run: fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo; echo src/a.c:1:1: error: x", 3*maxMatched),
			want: []sallyport.Annotation{{Level: "error", Message: "x", File: "src/a.c", Line: 1, Col: 1}}, log: []string{"|" + strings.Repeat("x", 3*maxMatched)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.outcome == "" {
				c.outcome = sallyport.Success
			}
			e := trial{secrets: map[string]string{"S": "hunter2-hunter2"}, yaml: steps("- shell: bash\n  run: |\n    mkdir -p src; touch src/a.c; cat > m.json <<'EOM'\n" + indent(c.matcher, 4) + "    EOM\n    echo ::add-matcher::m.json\n" + indent(c.run, 4))}.try(t)
			s := e.step(1)
			if s.Outcome != c.outcome {
				t.Errorf("outcome %s, want %s", s.Outcome, c.outcome)
			}
			if fmt.Sprint(s.Annotations) != fmt.Sprint(c.want) {
				t.Errorf("annotations\n%+v\nwant\n%+v", s.Annotations, c.want)
			}
			at := 0
			all := e.all()
			for _, want := range c.log {
				i := strings.Index(all[at:], "\n1 "+want+"\n")
				if i < 0 {
					t.Errorf("the log lacks %.100q in its order", want)
					break
				}
				at += i + 1
			}
			if t.Failed() {
				t.Logf("%s\n%.4000s", s.Cause, all)
			}
		})
	}
}

func FuzzParseMatchers(f *testing.F) {
	f.Add([]byte(`{"problemMatcher":[{"owner":"gcc","severity":"error","pattern":[{"regexp":"^(.*):(\\d+)$","file":1,"line":2,"message":1}]}]}`), "a.c:1\nb")
	f.Add([]byte(`{"problemMatcher":[{"owner":"x","pattern":[{"regexp":"^a","file":9},{"regexp":"(b)\\u001b","message":1,"loop":true}]}]}`), "a\nb\nb\nc")
	f.Fuzz(func(t *testing.T, src []byte, text string) {
		list, _, err := parseMatchers(src)
		if err != nil {
			return
		}
		r := newRunning(&list)
		for line := range strings.SplitSeq(text, "\n") {
			r.match(line)
		}
	})
}
