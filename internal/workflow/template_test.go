package workflow

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

func TestCondition(t *testing.T) {
	t.Parallel()
	s, err := NewScope(map[string]json.RawMessage{"github": []byte(`{"ref":"refs/heads/main"}`), "env": []byte(`{"yes":"true","no":"false","empty":""}`)})
	if err != nil {
		t.Fatal(err)
	}
	failed := s.Clone()
	failed.SetStatus(Status{Failure: true})
	for _, c := range []struct {
		text                 string
		success, afterFailed bool
	}{
		{"", true, false},
		{" \n ", true, false},
		{"true", true, false},
		{"false", false, false},
		{"0", false, false},
		{"github.ref == 'refs/heads/main'", true, false},
		{"github.ref == 'refs/heads/main'\n", true, false},
		{"  github.ref != 'refs/heads/main'  ", false, false},
		{"! startsWith(github.ref, 'refs/tags/')", true, false},
		{"!startsWith(github.ref, 'refs/heads/')", false, false},
		{"${{ github.ref == 'refs/heads/main' }}", true, false},
		{"${{ !startsWith(github.ref, 'refs/heads/') }}", false, false},
		{"${{false}}", false, false},
		{"env.yes", true, false},
		{"env.no", true, false}, // a text that is not empty
		{"env.empty", false, false},
		{"env.no == 'true'", false, false},

		// text around ${{ }}
		{"${{ false }} ", true, false},
		{" ${{ false }}", true, false},
		{"${{ false }}\n", true, false},
		{"!${{ true }}", true, false},
		{"${{ false }} && true", true, false},
		{"github.ref == 'x' && ${{ false }}", true, false},
		{"${{ false }} == true", true, false},
		{"${{ env.empty }}${{ env.empty }}", false, false}, // an empty text
		{"${{ env.no }}${{ env.empty }}", true, false},

		// nothing but a quoted string
		{"${{ 'false' }}", false, false},
		{"${{ 'true' }}", true, false},
		{"${{ '' }}", true, false},
		{"${{ ' ' }}", true, false},
		{"${{ 'github.ref == ''refs/heads/main''' }}", true, false},
		{"${{ 'github.ref == ''x''' }}", false, false},
		{"${{ 'always()' }}", true, true},
		{"${{ ('false') }}", true, false}, // a value
		{"'false'", true, false},
		{"${{ 'false' }}x", true, false},

		// status functions, wherever they stand
		{"always()", true, true},
		{"ALWAYS()", true, true},
		{"${{ always() }}", true, true},
		{"success()", true, false},
		{"!success()", false, true},
		{"failure()", false, true},
		{"${{ failure() }}", false, true},
		{"!cancelled()", true, true},
		{"failure() || true", true, true},
		{"failure() && github.ref == 'refs/heads/main'", false, true},
		{"always() && false", false, false},
		{"false || format('{0}', always())", true, true},
		{"${{ failure() }} ", true, true},
		{"x ${{ cancelled() }}", true, true},
		{"'always()'", true, false},
		{"env.always || true", true, false},
	} {
		for scope, want := range map[*Scope]bool{s: c.success, failed: c.afterFailed} {
			if got, err := scope.Condition(sallyport.Template{Text: c.text}); err != nil || got != want {
				t.Errorf("%q after success %v: %v (%v), want %v", c.text, scope == s, got, err, want)
			}
		}
	}
}

func TestConditionErrors(t *testing.T) {
	t.Parallel()
	s, _ := NewScope(nil)
	for text, want := range map[string]struct {
		offset int
		msg    string
	}{
		"${{ }}":                   {3, "an expression was expected"},
		"${{ 1 == }} && true":      {9, "unexpected end"},
		"${{ true":                 {0, "not closed"},
		"github.ref = 'x'":         {11, "=="},
		"${{ 'nope' }}":            {5, "unrecognized named-value"},
		"${{ 'nope == ''a''' }}":   {4, "unrecognized named-value"},
		"a ${{ 1 }} ${{ nope }}":   {15, "unrecognized named-value"},
		"true && fromJSON('?')":    {8, "not JSON"},
		"${{ 'fromJSON(''?'')' }}": {4, "not JSON"},
	} {
		_, err := s.Condition(sallyport.Template{Text: text})
		var ee *EvalError
		if !errors.As(err, &ee) || ee.Offset != want.offset || !strings.Contains(ee.Message, want.msg) {
			t.Errorf("%q: %#v, want %q at %d", text, err, want.msg, want.offset)
		}
	}
}

func TestStatusByContexts(t *testing.T) {
	t.Parallel()
	for contexts, want := range map[string]Status{
		`{}`:                           {Success: true},
		`{"needs":{}}`:                 {Success: true},
		`{"job":{"status":"success"}}`: {Success: true},
		`{"job":{"status":"failure"}}`: {Failure: true},
		`{"job":{"status":"Cancelled"},"needs":{"a":{"result":"failure"}}}`:         {Cancelled: true},
		`{"job":{},"needs":{"a":{"result":"success"}}}`:                             {Success: true},
		`{"needs":{"a":{"result":"success"},"b":{"result":"skipped"}}}`:             {},
		`{"needs":{"a":{"result":"success"},"b":{"result":"failure"}}}`:             {Failure: true},
		`{"needs":{"a":{"result":"cancelled"},"b":{"result":"failure"},"c":"odd"}}`: {Failure: true, Cancelled: true},
	} {
		var raw map[string]json.RawMessage
		if err := json.Unmarshal([]byte(contexts), &raw); err != nil {
			t.Fatal(err)
		}
		s, err := NewScope(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.StatusByContexts(); got != want {
			t.Errorf("%s: %+v, want %+v", contexts, got, want)
		}
	}
}
