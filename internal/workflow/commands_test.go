package workflow

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

func TestParseCommand(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]*Command{
		"::add-mask::secret":                           {Name: "add-mask", Value: "secret"},
		"::ADD-MASK::secret":                           {Name: "add-mask", Value: "secret"},
		"  \t::group::Title":                           {Name: "group", Value: "Title"},
		"::endgroup::":                                 {Name: "endgroup"},
		"::warning file=a.go,line=3::m":                {Name: "warning", Props: []Var{{Name: "file", Value: "a.go"}, {Name: "line", Value: "3"}}, Value: "m"},
		"::error title=a%2Cb%3Ac%25,col=::x%0Ay%0D%25": {Name: "error", Props: []Var{{Name: "title", Value: "a,b:c%"}}, Value: "x\ny\r%"},
		"::debug::%250A":                               {Name: "debug", Value: "%0A"},
		"::notice::a::b":                               {Name: "notice", Value: "a::b"},
		"::notice  file=a=b , line=1::x":               {Name: "notice", Props: []Var{{Name: "file", Value: "a=b "}, {Name: " line", Value: "1"}}, Value: "x"},
		"::set-output name=x::%3A":                     {Name: "set-output", Props: []Var{{Name: "name", Value: "x"}}, Value: "%3A"},
		"::anything::":                                 {Name: "anything"},
		"##[group]Title":                               {Name: "group", Value: "Title"},
		"2024 ##[error file=a;line=1]m%5D":             {Name: "error", Props: []Var{{Name: "file", Value: "a"}, {Name: "line", Value: "1"}}, Value: "m]"},
		"##[command]ls":                                {Name: "command", Value: "ls"},
		"##[section]x":                                 nil,
		"##[group":                                     nil,
		"x ::group::y":                                 nil,
		"::group":                                      nil,
		"::group:":                                     nil,
		"::::x":                                        nil,
		":: x::y":                                      nil,
		"":                                             nil,
		"::a::" + strings.Repeat("x", maxCommandBytes): nil,
	} {
		got, ok := ParseCommand(line)
		if want == nil {
			if ok {
				t.Errorf("%.40q: got %+v, want none", line, got)
			}
			continue
		}
		want.Line = strings.TrimLeft(line, " \t")
		if !ok || !reflect.DeepEqual(got, *want) {
			t.Errorf("%q: got %+v %v, want %+v", line, got, ok, *want)
		}
	}
	c, _ := ParseCommand("::error file=a,FILE=b::")
	if c.Prop("File") != "b" || c.Prop("line") != "" {
		t.Errorf("properties of %+v", c)
	}
}

func TestParseEnvFile(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"":                                       "[]",
		"a=1":                                    "[a=1]",
		"a=1\nb=2\n":                             "[a=1 b=2]",
		"\n\na=\n\n":                             "[a=]",
		"a=b=c":                                  "[a=b=c]",
		"a=1<<2":                                 "[a=1<<2]",
		"a<<E\nx\ny\nE\nb=1":                     "[a=x\ny b=1]",
		"a<<E\nE":                                "[a=]",
		"a<<E\n\nE\n":                            "[a=]",
		"a<<E\n\n\nE\n":                          "[a=\n]",
		"a<<E\nb=1\n E\nE\n":                     "[a=b=1\n E]",
		"a<<E=F\nx\nE=F":                         "[a=x]",
		"a=1\r\nb=2":                             "[a=1\r b=2]",
		"a<<E\r\nx\r\nE\r\n":                     "[a=x\r]",
		"a<<E\nx\nE\na<<E\ny\nE":                 "[a=x a=y]",
		"\ufeffa=1":                              "[a=1]",
		"PATH=/x:$PATH":                          "[PATH=/x:$PATH]",
		"a":                                      "line 1: \"a\" is neither",
		"a=1\n\nnope":                            "line 3: ",
		"=1":                                     "line 1: the name before = is missing",
		"<<E\nE":                                 "line 1: a name and a delimiter",
		"a<<\nx":                                 "line 1: a name and a delimiter",
		"a<<E\nx":                                "never ends",
		"a<<E\nx\nE\nq<<F\nE":                    "line 4: the value of \"q\" never ends",
		strings.Repeat("x", maxEnvFileBytes+1):   "at most 1048576 are read",
		strings.Repeat("a=\n", maxEnvFileVars+1): "more than 10000 entries",
	} {
		vars, err := ParseEnvFile([]byte(src))
		var out []string
		for _, v := range vars {
			out = append(out, v.Name+"="+v.Value)
		}
		got := fmt.Sprint(out)
		if err != nil {
			got = err.Error()
			if sallyport.ErrorCode(err) != sallyport.CodeInvalid || vars != nil {
				t.Errorf("%.40q: %v with %v", src, err, vars)
			}
		}
		if err == nil && got != want || !strings.Contains(got, want) {
			t.Errorf("%.40q: got %q, want %q", src, got, want)
		}
	}
}

func FuzzParseEnvFile(f *testing.F) {
	for _, s := range []string{"a=1", "a<<E\nx\nE\n", "a<<E\r\nx\r\nE\r\n", "<<", "a<<b<<c\nb<<c"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		vars, err := ParseEnvFile(src)
		total := 0
		for _, v := range vars {
			if v.Name == "" || strings.Contains(v.Name, "\n") {
				t.Errorf("name %q", v.Name)
			}
			total += len(v.Name) + len(v.Value)
		}
		if total > len(src) || err != nil && vars != nil {
			t.Errorf("%d bytes from %d, %v", total, len(src), err)
		}
	})
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{"::a b=c,d=e::f", "##[group]x", "::%25::%0A"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if c, ok := ParseCommand(line); ok && (c.Name == "" || len(c.Value) > len(line)) {
			t.Errorf("%q: %+v", line, c)
		}
	})
}
