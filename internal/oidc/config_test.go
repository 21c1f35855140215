package oidc

import (
	"strings"
	"testing"
)

func TestParseFile(t *testing.T) {
	t.Parallel()
	const good = "issuer: https://id.example.com\nclient_id: a\n"
	f, err := ParseFile([]byte(good))
	if err != nil || f.Account != "sub" || f.Name != "id.example.com" || f.Groups != "groups" {
		t.Errorf("got %+v, %v", f, err)
	}
	for name, c := range map[string]struct{ src, want string }{
		"empty":           {"", "empty"},
		"two documents":   {good + "---\n{}\n", "more than one"},
		"unknown key":     {good + "isuer: x\n", "isuer"},
		"plain http":      {"issuer: http://id.example.com\nclient_id: a\n", "https"},
		"localhost":       {"issuer: http://localhost:1\nclient_id: a\n", "https"},
		"no client":       {"issuer: https://id.example.com\n", "client_id"},
		"e-mail is id":    {good + "account: email\n", "another person's"},
		"admits everyone": {good + "admit: {}\n", "everybody"},
		"wildcard domain": {good + "admit: {email_domain: '*.example.com'}\n", "not a domain"},
		"unknown team":    {good + "admit: {teams: [ops]}\n", "no group"},
		"team of nobody":  {good + "teams: {ops: []}\n", "ops"},
		"empty group":     {good + "teams: {ops: ['']}\n", "ops"},
		"age":             {good + "step_up: {max_age: 2h}\n", "max_age"},
		"too long":        {good + "#" + strings.Repeat("x", MaxFile), "larger"},
	} {
		if _, err := ParseFile([]byte(c.src)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte("issuer: https://id.example.com\nclient_id: a\nteams: {ops: [x]}\nadmit: {teams: [ops]}\nstep_up: {max_age: 1m}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := ParseFile(src)
		if err == nil && (secure(file.Issuer) != nil || file.ClientID == "" || file.Account == "email") {
			t.Errorf("took %+v", file)
		}
	})
}
