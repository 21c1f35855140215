package engine

import (
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// subject names the job to those outside who trust this installation, by one grammar:
//
//	repo:NAME-ID:environment:ENVIRONMENT   in an environment
//	repo:NAME-ID:pull_request              in a run that a pull request caused
//	repo:NAME-ID:ref:REF                   else
//
// ID is the project's, which is never given again, so that a name that somebody takes
// after another does not inherit what the other was trusted with. No part holds a colon,
// and none looks like another: a name that would is refused, not rewritten.
func subject(p sallyport.Project, run sallyport.Run, environment string) (string, error) {
	if err := plainPart("project", p.Name, maxProjectName); err != nil {
		return "", err
	}
	if err := plainPart("project's id", string(p.ID), maxProjectName); err != nil {
		return "", err
	}
	repo := "repo:" + p.Name + "-" + string(p.ID)
	switch {
	case environment != "":
		return repo + ":environment:" + environment, plainPart("environment", environment, maxEnvironmentName)
	case run.Event == "pull_request":
		return repo + ":pull_request", nil
	}
	return repo + ":ref:" + run.Ref, plainPart("ref", run.Ref, maxSubjectRef)
}

const (
	maxProjectName = 64
	maxSubjectRef  = 512 // AWS takes a subject of at most 1024 bytes in conditions that are compared whole
)

// plainPart refuses what could pass for another part of a subject, or to an eye for another
// name: a colon, the signs of patterns and escapes, spaces at the ends, all beyond ASCII.
func plainPart(what, s string, most int) error {
	bad := func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune(`:%*?"'\<>`, r) }
	if s == "" || len(s) > most || strings.TrimSpace(s) != s || strings.ContainsFunc(s, bad) {
		return sallyport.Errorf(sallyport.CodeDenied, "no ID token can name the %s %.80q", what, s).
			WithHint("name it in 1 to %d of a-z, A-Z, 0-9 and signs such as - _ . / and space; none of : %% * ? quotes and letters beyond ASCII", most)
	}
	return nil
}
