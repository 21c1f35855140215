package workflow

import (
	"regexp"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

var ruleCachePoisoning = Rule{
	ID: "cache-poisoning", Severity: SeverityMedium, Confidence: ConfidenceLow,
	Title: "a workflow that publishes restores a cache",
	Why: "What a cache holds was put there by another run. If that run was not as trusted as this one, what it left becomes part of what is published, with valid provenance. " +
		"Sallyport restores only what a run of the same or a higher tier wrote; on GitHub any job of the default branch can have written it.",
	Mend:  "do not restore caches in a workflow that publishes: drop the cache step, or set the action's input that turns its cache off",
	check: checkCachePoisoning,
}

// cacheInputs are actions that cache, and the input that says so: "" always,
// !x unless x turns it off, x if x is set.
var cacheInputs = map[string]string{
	"actions/cache":                          "",
	"actions/cache/restore":                  "",
	"actions/setup-go":                       "!cache",
	"actions/setup-java":                     "cache",
	"actions/setup-node":                     "cache",
	"actions/setup-python":                   "cache",
	"actions/setup-dotnet":                   "cache",
	"astral-sh/setup-uv":                     "!enable-cache",
	"bazel-contrib/setup-bazel":              "disk-cache",
	"docker/build-push-action":               "cache-from",
	"docker/setup-buildx-action":             "!cache-binary",
	"golangci/golangci-lint-action":          "!skip-cache=true",
	"gradle/actions/setup-gradle":            "!cache-disabled=true",
	"gradle/gradle-build-action":             "!cache-disabled=true",
	"jetify-com/devbox-install-action":       "enable-cache",
	"mozilla-actions/sccache-action":         "",
	"oven-sh/setup-bun":                      "!no-cache=true",
	"pnpm/action-setup":                      "cache",
	"ruby/setup-ruby":                        "bundler-cache",
	"shivammathur/cache-extensions":          "",
	"swatinem/rust-cache":                    "",
	"actions-rust-lang/setup-rust-toolchain": "!cache",
	"mlugg/setup-zig":                        "!use-cache",
}

func checkCachePoisoning(p *pass) {
	if p.file == nil {
		return
	}
	for _, j := range p.jobs {
		why := p.publishes(j)
		if why == "" {
			continue
		}
		for _, st := range j.steps {
			if st.caches() {
				p.report(st.usesAt, "%s restores a cache in a job that publishes (%s)", st.name, why)
			}
		}
	}
}

// caches reports whether a step restores a cache.
func (st *stepView) caches() bool {
	input, ok := cacheInputs[st.name]
	if !ok {
		return false
	}
	if st.name == "actions/cache" || st.name == "swatinem/rust-cache" {
		v, given := st.input("lookup-only")
		return !given || v.Text != "true"
	}
	if v, known := parseVersion(st.ref); st.name == "actions/setup-go" && known && v[0] < 4 {
		return false // it did not cache by itself before
	}
	name, off := strings.CutPrefix(input, "!")
	name, want, inverse := strings.Cut(name, "=")
	v, given := st.input(name)
	switch {
	case input == "":
		return true
	case off && inverse:
		return !given || v.Text != want
	case off:
		return !given || v.Text != "false" && v.Text != ""
	}
	return given && v.Kind != sallyport.TreeNull && v.Text != "" && v.Text != "false"
}

// publishers are actions that publish, and publishing are commands that do.
var (
	publishers = []string{
		"actions/create-release", "actions/deploy-pages", "actions/upload-release-asset", "cycjimmy/semantic-release-action",
		"js-devtools/npm-publish", "ncipollo/release-action", "pypa/gh-action-pypi-publish", "rubygems/release-gem",
		"softprops/action-gh-release", "svenstaro/upload-release-action", "changesets/action", "gradle-update/update-gradle-wrapper-action",
	}
	publishing = regexp.MustCompile(`(?m)^[^#\n]*?\b(?:npm\s+publish|pnpm\s+publish|yarn\s+(?:npm\s+)?publish|twine\s+upload|uv\s+publish|poetry\s+publish|hatch\s+publish|cargo\s+publish|gem\s+push|gh\s+release\s+(?:create|upload)|docker\s+push|helm\s+push|mvn\b[^\n]*\bdeploy|goreleaser\s+release)\b`)
)

// dryRelease are the options with which goreleaser publishes nothing.
var dryRelease = regexp.MustCompile(`--(?:snapshot|skip-publish|skip[= ][a-z,]*publish)`)

// publishes says by what a job publishes; "" if it does not.
func (s *subject) publishes(j *jobView) string {
	for _, st := range j.steps {
		switch {
		case st.name == "goreleaser/goreleaser-action":
			if args, _ := st.input("args"); strings.Contains(args.Text, "release") && !dryRelease.MatchString(args.Text) {
				return st.name
			}
		case slices.Contains(publishers, st.name):
			return st.name
		case st.name == "docker/build-push-action":
			if v, ok := st.input("push"); ok && v.Text != "false" && v.Text != "" {
				return st.name
			}
		}
		if cmd := publishing.FindString(st.Run.Text); cmd != "" && !strings.Contains(cmd, "--dry-run") {
			return strings.TrimSpace(cmd)
		}
	}
	if len(j.events) == 1 && j.events[0] == "release" {
		return "it is started by a release"
	}
	return ""
}
