package actions

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

var firstSeen = time.Date(2026, 11, 28, 14, 5, 17, 0, time.UTC)

func entry(uses string) Entry {
	return Entry{Uses: uses, From: "https://git.example.com/" + uses, Commit: strings.Repeat("ab", 20),
		Tree: sallyport.DigestOf([]byte(uses)), FirstSeen: firstSeen}
}

func TestLockRoundTrip(t *testing.T) {
	t.Parallel()
	young := entry("Acme/tool@v2")
	young.Accepted = &Acceptance{At: firstSeen.Add(time.Minute), Reason: "read it & <trust> it"}
	var l Lock
	for _, e := range []Entry{entry("b/c@v1"), young, entry("acme/tool@v1"), entry("acme/tool@main"), entry("b/c@v1")} {
		l.put(e)
	}
	b := l.Encode()
	got, err := Parse(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if again := got.Encode(); !bytes.Equal(again, b) {
		t.Errorf("got\n%s\nwant\n%s", again, b)
	}
	var uses []string
	for _, e := range got.Actions {
		uses = append(uses, e.Uses)
	}
	if want := "acme/tool@main acme/tool@v1 Acme/tool@v2 b/c@v1"; strings.Join(uses, " ") != want {
		t.Errorf("order %v, want %s", uses, want)
	}
	if e, ok := got.Find("ACME/Tool", "v2"); !ok || e.Accepted.Reason != "read it & <trust> it" {
		t.Errorf("%+v %v", e, ok)
	}
	if _, ok := got.Find("acme/tool", "V2"); ok {
		t.Error("refs are compared as they are written")
	}
	if !strings.HasPrefix(string(b), "{\n  \"version\": 1,\n  \"actions\": [\n    {\n      \"uses\": \"acme/tool@main\",\n      \"from\": ") {
		t.Errorf("written as\n%s", b)
	}
	if _, err := Parse(Lock{}.Encode()); err != nil {
		t.Errorf("empty: %v", err)
	}
}

func TestLockErrors(t *testing.T) {
	t.Parallel()
	var l Lock
	l.put(entry("a/b@v1"))
	l.put(entry("c/d@v1"))
	good := string(l.Encode())
	for name, c := range map[string]struct{ from, to, want string }{
		"not JSON":        {good, "actions:\n", ".sallyport/actions.lock:1: not a lock"},
		"unknown key":     {`"from"`, `"form"`, `unknown field "form"`},
		"version":         {`"version": 1`, `"version": 2`, "version 2 is not known"},
		"no version":      {"  \"version\": 1,\n", "", "version 0 is not known"},
		"order":           {"c/d@v1", "A/a@v1", "not in its place"},
		"twice":           {"c/d@v1", "A/B@v1", "there twice"},
		"key in capitals": {`"from"`, `"From"`, "not written as sallyport writes it"},
		"key twice":       {"\"from\": \"https://git.example.com/a/b@v1\"", "\"from\": \"https://x\",\n      \"from\": \"https://git.example.com/a/b@v1\"", ":6: not written as sallyport writes it"},
		"spaces":          {"  \"version\"", " \"version\"", ":2: not written as sallyport writes it"},
		"line ends":       {"\n", "\r\n", ":1: not written as sallyport writes it"},
		"after it":        {good, good + "{}", "not written as sallyport writes it"},
		"directory":       {"\"uses\": \"a/b@v1\"", "\"uses\": \"a/b/c@v1\"", "names a directory"},
		"no ref":          {"\"uses\": \"a/b@v1\"", "\"uses\": \"a/b\"", "has no @REF"},
		"short commit":    {strings.Repeat("ab", 20), "abab", "40 lower-case hex digits"},
		"bad tree":        {"sha256:", "sha1:", `"tree" must be sha256:`},
		"local time":      {"14:05:17Z", "14:05:17+02:00", "a time in UTC"},
		"fraction":        {"14:05:17Z", "14:05:17.5Z", "whole seconds"},
		"no time":         {"2026-11-28T14:05:17Z", "0001-01-01T00:00:00Z", "a time in UTC"},
		"kind":            {`"commit": "`, `"commit": 1, "x": "`, "must not be a number"},
		"no reason":       {"T14:05:17Z\"\n    },", "T14:05:17Z\",\n      \"accepted\": {\n        \"at\": \"2026-11-28T14:05:17Z\",\n        \"reason\": \" \"\n      }\n    },", `"reason" must be a line`},
		"other commit":    {"\"uses\": \"a/b@v1\"", "\"uses\": \"a/b@" + strings.Repeat("cd", 20) + "\"", "names another commit"},
		"too long":        {good, strings.Repeat(" ", MaxLockBytes+1), "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(strings.ReplaceAll(good, c.from, c.to)))
			if err == nil || !strings.Contains(err.Error(), c.want) || sallyport.ErrorCode(err) != sallyport.CodeInvalid {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	at := func(hours int) time.Time { return firstSeen.Add(time.Duration(hours) * time.Hour) }
	accepted := entry("young/ok@v1")
	accepted.Accepted = &Acceptance{At: at(1), Reason: "read"}
	moved := entry("old/tool@v1")
	moved.Commit, moved.Tree = strings.Repeat("cd", 20), sallyport.DigestOf([]byte("moved"))
	var main, branch Lock
	main.put(entry("old/tool@v1"))
	main.put(accepted)
	branch.put(moved)
	branch.put(entry("new/tool@v1"))
	for name, c := range map[string]struct {
		judge           Judge
		repository, ref string
		want, hint      string // of the refusal; "" for none
	}{
		"old enough":     {Judge{Lock: main, Now: at(72)}, "OLD/tool", "v1", "", ""},
		"too young":      {Judge{Lock: main, Now: at(71)}, "old/tool", "v1", "was first seen 2 days 23 hours ago; what is new rests for 3 days, until 2026-12-01 14:05 UTC", "sallyport actions lock --accept-young REASON old/tool@v1"},
		"just now":       {Judge{Lock: main, Now: at(0)}, "old/tool", "v1", "first seen less than a minute ago", ""},
		"accepted":       {Judge{Lock: main, Now: at(2)}, "young/ok", "v1", "", ""},
		"not locked":     {Judge{Lock: main, Now: at(99)}, "new/tool", "v1", "new/tool@v1 is not locked", "sallyport actions lock"},
		"another ref":    {Judge{Lock: main, Now: at(99)}, "old/tool", "v2", "old/tool@v2 is not locked", ""},
		"not by main":    {Judge{Lock: main, Branch: "main", Now: at(99)}, "no/tool", "v1", "no/tool@v1 is not locked by main", "then bring .sallyport/actions.lock into main"},
		"by the branch":  {Judge{Lock: main, Proposed: branch, Branch: "main", Now: at(99)}, "new/tool", "v1", "locked by this commit but not by main", "into main first"},
		"otherwise":      {Judge{Lock: main, Proposed: branch, Branch: "main", Now: at(99)}, "old/tool", "v1", "locked to cdcdcdcdcdcd by this commit and to abababababab by main", "into main first"},
		"both the same":  {Judge{Lock: main, Proposed: main, Branch: "main", Now: at(99)}, "old/tool", "v1", "", ""},
		"dropped by one": {Judge{Lock: main, Branch: "main", Now: at(99)}, "old/tool", "v1", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.judge.Quarantine == 0 {
				c.judge.Quarantine = DefaultQuarantine
			}
			e, err := c.judge.Find(c.repository, c.ref)
			if c.want == "" {
				if err != nil || e.Ref() != c.ref {
					t.Errorf("%+v %v", e, err)
				}
				return
			}
			message, hint := sallyport.ErrorMessage(err)
			if sallyport.ErrorCode(err) != sallyport.CodeDenied || !strings.Contains(message, c.want) || !strings.Contains(hint, c.hint) {
				t.Errorf("got %q, %q; want %q, %q", message, hint, c.want, c.hint)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	var l Lock
	e := entry("a/b@v1")
	e.Accepted = &Acceptance{At: firstSeen, Reason: "r"}
	l.put(e)
	l.put(entry("C/d@main"))
	f.Add(l.Encode())
	f.Add(Lock{}.Encode())
	f.Add([]byte(`{"version":1,"actions":[{"uses":"a/b@v1"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(l.Encode(), b) {
			t.Errorf("%q is written as %q", b, l.Encode())
		}
		for _, e := range l.Actions {
			if found, ok := l.Find(e.Source().Repository, e.Source().Ref); !ok || found.Uses != e.Uses {
				t.Errorf("%s is not found", e.Uses)
			}
		}
	})
}
