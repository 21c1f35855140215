package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleUnknownInput = Rule{
	ID: "unknown-input", Severity: SeverityMedium, Confidence: ConfidenceHigh,
	Title: "an input or a secret that nothing declares, or that is missing",
	Why:   "An input that is not declared is empty where it is read, and is not handed on where it is given. A required one that is missing fails the run, or is empty.",
	Mend:  "declare it below on, or in the action, or correct its name",
	check: func(p *pass) {
		p.inputReferences()
		for _, j := range p.jobs {
			if call := p.called(j); call != nil {
				p.callInputs(j, call)
			}
			for _, st := range j.steps {
				if a := p.localAction(st); a != nil {
					p.actionInputs(st, a)
				}
				p.knownInputs(st)
			}
		}
	},
}

// inputReferences checks inputs.<name>, github.event.inputs.<name>, and in a
// workflow that is only called, secrets.<name>.
func (p *pass) inputReferences() {
	var names []string
	if p.action != nil {
		names = inputNames(p.action.Inputs)
	} else {
		for _, t := range p.file.On {
			for _, in := range t.Inputs {
				names = append(names, in.Name)
			}
		}
	}
	check := func(at *site, n *node, name, what string, names []string) {
		if name != "?" && name != "*" && !slices.ContainsFunc(names, func(k string) bool { return equalFold(k, name) }) {
			p.report(p.pos(at, n), "there is no %s %s%s", what, quote(name), didYouMean(name, names))
		}
	}
	onlyCalled := slices.Equal(p.eventNames(), []string{"workflow_call"})
	p.chains(func(at *site, c chain, n *node) {
		switch {
		case c.is("inputs", ""):
			check(at, n, c[1], "input", names)
		case c.is("github", "event", "inputs", "") && p.trigger("workflow_dispatch") != nil:
			check(at, n, c[3], "input", names)
		case c.is("secrets", "") && onlyCalled && !equalFold(c[1], "github_token"):
			var secrets []string
			for _, s := range p.trigger("workflow_call").Secrets {
				secrets = append(secrets, s.Name)
			}
			if len(secrets) > 0 { // without any, callers may use inherit
				check(at, n, c[1], "secret", secrets)
			}
		}
	})
}

// callInputs checks what a job hands to a workflow of this repository.
func (p *pass) callInputs(j *jobView, call *Trigger) {
	var inputs, secrets []string
	var missing []string
	for _, in := range call.Inputs {
		inputs = append(inputs, in.Name)
		if in.Required && in.Default.IsZero() && !hasEntry(j.With, in.Name) {
			missing = append(missing, "the input "+quote(in.Name))
		}
	}
	for _, s := range call.Secrets {
		secrets = append(secrets, s.Name)
		if s.Required && j.Secrets.Kind != sallyport.TreeString && !hasEntry(j.Secrets, s.Name) {
			missing = append(missing, "the secret "+quote(s.Name))
		}
	}
	if len(missing) > 0 && (j.With.Kind == sallyport.TreeMap || j.With.IsZero()) {
		p.report(j.Uses.Pos, "%s requires %s", j.Uses.Text, strings.Join(missing, " and "))
	}
	p.entries(j.With, j.Uses.Text, "input", inputs)
	p.entries(j.Secrets, j.Uses.Text, "secret", secrets)
}

// actionInputs checks what a step hands to an action of this repository.
func (p *pass) actionInputs(st *stepView, a *Action) {
	if st.With.Kind == sallyport.TreeString {
		return
	}
	for _, in := range a.Inputs {
		if in.Required && in.Default.IsZero() && !hasEntry(st.With, in.Name) {
			p.report(st.usesAt, "%s requires the input %s", st.Uses, quote(in.Name))
		}
	}
	names := inputNames(a.Inputs)
	if a.Using.Text == "docker" {
		names = append(names, "args", "entrypoint")
	}
	p.entries(st.With, st.Uses, "input", names)
}

func (p *pass) entries(given sallyport.Tree, of, what string, names []string) {
	for _, e := range given.Pairs {
		if !isExpr(e.Key.Text) && !slices.ContainsFunc(names, func(k string) bool { return equalFold(k, e.Key.Text) }) {
			p.report(e.Key.Pos, "%s has no %s %s%s", of, what, quote(e.Key.Text), didYouMean(e.Key.Text, names))
		}
	}
}

func hasEntry(t sallyport.Tree, name string) bool {
	return slices.ContainsFunc(t.Pairs, func(e sallyport.TreePair) bool { return equalFold(e.Key.Text, name) || isExpr(e.Key.Text) })
}

// knownInputs checks what a step hands to an action that the runner knows. An
// input that is not like any of them may be one of a newer version.
func (p *pass) knownInputs(st *stepView) {
	names, ok := knownInputs[st.name]
	if !ok || st.With.Kind == sallyport.TreeString {
		return
	}
	for _, e := range st.With.Pairs {
		name := foldCase(e.Key.Text)
		if isExpr(name) || slices.ContainsFunc(names, func(k string) bool { return equalFold(k, name) }) {
			continue
		}
		if hint := nearest(name, names); hint != "" && distance(name, hint) <= 2 {
			p.report(e.Key.Pos, "%s has no input %s (did you mean %q?)", st.name, quote(e.Key.Text), hint)
		}
	}
	for _, name := range requiredInputs[st.name] {
		if !hasEntry(st.With, name) {
			p.report(st.usesAt, "%s requires the input %s", st.name, quote(name))
		}
	}
}

// knownInputs are the inputs of well-known actions.
var knownInputs = map[string][]string{
	"actions/attest": {
		"create-storage-record", "github-token", "predicate", "predicate-path", "predicate-type", "push-to-registry", "sbom-path", "show-summary",
		"subject-checksums", "subject-digest", "subject-name", "subject-path", "subject-version",
	},
	"actions/attest-build-provenance": {
		"create-storage-record", "github-token", "push-to-registry", "show-summary", "subject-checksums", "subject-digest", "subject-name", "subject-path",
		"subject-version",
	},
	"actions/attest-sbom": {
		"create-storage-record", "github-token", "push-to-registry", "sbom-path", "show-summary", "subject-checksums", "subject-digest", "subject-name",
		"subject-path", "subject-version",
	},
	"actions/cache": {"path", "key", "restore-keys", "upload-chunk-size", "enableCrossOsArchive", "fail-on-cache-miss", "lookup-only", "save-always"},
	"actions/checkout": {
		"clean", "fetch-depth", "fetch-tags", "filter", "github-server-url", "lfs", "path", "persist-credentials", "ref", "repository", "set-safe-directory",
		"show-progress", "sparse-checkout", "sparse-checkout-cone-mode", "ssh-key", "ssh-known-hosts", "ssh-strict", "ssh-user", "submodules", "token",
	},
	"actions/download-artifact": {"artifact-ids", "github-token", "merge-multiple", "name", "path", "pattern", "repository", "run-id"},
	"actions/github-script":     {"base-url", "debug", "github-token", "previews", "result-encoding", "retries", "retry-exempt-status-codes", "script", "user-agent"},
	"actions/setup-go":          {"architecture", "cache", "cache-dependency-path", "check-latest", "go-version", "go-version-file", "token"},
	"actions/setup-node": {
		"always-auth", "architecture", "cache", "cache-dependency-path", "check-latest", "mirror", "mirror-token", "node-version", "node-version-file",
		"package-manager-cache", "registry-url", "scope", "token",
	},
	"actions/setup-python": {
		"allow-prereleases", "architecture", "cache", "cache-dependency-path", "check-latest", "freethreaded", "pip-install", "pip-version",
		"python-version", "python-version-file", "token", "update-environment",
	},
	"actions/upload-artifact": {"compression-level", "if-no-files-found", "include-hidden-files", "name", "overwrite", "path", "retention-days"},
}

// requiredInputs are those of them that have no default.
var requiredInputs = map[string][]string{
	"actions/cache":           {"path", "key"},
	"actions/github-script":   {"script"},
	"actions/upload-artifact": {"path"},
}
