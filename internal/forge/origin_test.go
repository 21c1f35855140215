package forge

import "testing"

func TestOwnerAndName(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://github.com/Acme/App.git":           "Acme/App",
		"https://user:secret@git.example/acme/app/": "acme/app",
		"ssh://git@git.example:2222/group/acme/app": "acme/app",
		"git@github.com:acme/app.git":               "acme/app",
		"git.example:acme/app":                      "acme/app",
		"/srv/git/acme/app.git":                     "",
		"../app":                                    "",
		"https://git.example/app.git":               "",
		"https://git.example/acme/..":               "",
		"https://git.example/acme/a%20b":            "",
		"git@host:acme/-x":                          "",
		"C:acme/app":                                "",
		"":                                          "",
	} {
		owner, name, ok := ownerAndName(address)
		if got := owner + "/" + name; ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %q, %v; want %q", address, got, ok, want)
		}
	}
}
