package workflow

import (
	"regexp"
	"strings"
)

var ruleTrustedPublishing = Rule{
	ID: "use-trusted-publishing", Severity: SeverityLow, Confidence: ConfidenceMedium,
	Title: "a long-lived token publishes a package",
	Why:   "The token works from anywhere until someone revokes it. Registries of Python, JavaScript, Ruby and Rust packages take the identity of the job instead, for minutes and for this workflow only.",
	Mend:  "set the workflow up as a trusted publisher of the package, grant id-token: write to the job, and delete the token",
	check: checkTrustedPublishing,
}

var (
	npmPublish   = regexp.MustCompile(`(?m)^[^#\n]*?\b(?:npm|pnpm|yarn npm|yarn)\s+publish\b`)
	pypiPublish  = regexp.MustCompile(`(?m)^[^#\n]*?\b(?:twine\s+upload|uv\s+publish|poetry\s+publish|hatch\s+publish|flit\s+publish|pdm\s+publish)\b`)
	gemPublish   = regexp.MustCompile(`(?m)^[^#\n]*?\bgem\s+push\b`)
	cargoPublish = regexp.MustCompile(`(?m)^[^#\n]*?\bcargo\s+publish\b`)
)

func checkTrustedPublishing(p *pass) {
	for _, st := range p.allSteps() {
		switch st.name {
		case "pypa/gh-action-pypi-publish":
			password, ok := st.input("password")
			url, _ := st.input("repository-url")
			if ok && password.Text != "" && (url.Text == "" || strings.Contains(url.Text, "pypi.org")) {
				p.report(password.Pos, "a password publishes to PyPI, which takes the job's identity instead")
			}
			continue
		case "rubygems/release-gem":
			continue
		}
		for _, k := range []struct {
			command *regexp.Regexp
			tokens  []string
			where   string
		}{
			{npmPublish, []string{"NODE_AUTH_TOKEN", "NPM_TOKEN", "NPM_AUTH_TOKEN", "YARN_NPM_AUTH_TOKEN"}, "npm"},
			{pypiPublish, []string{"TWINE_PASSWORD", "UV_PUBLISH_TOKEN", "UV_PUBLISH_PASSWORD", "POETRY_PYPI_TOKEN_PYPI", "HATCH_INDEX_AUTH", "FLIT_PASSWORD", "PDM_PUBLISH_PASSWORD", "PYPI_TOKEN"}, "PyPI"},
			{gemPublish, []string{"GEM_HOST_API_KEY", "RUBYGEMS_API_KEY"}, "RubyGems"},
			{cargoPublish, []string{"CARGO_REGISTRY_TOKEN"}, "crates.io"},
		} {
			at := k.command.FindStringIndex(st.Run.Text)
			if at == nil {
				continue
			}
			for _, e := range p.envAround(st) {
				for _, name := range k.tokens {
					if e.Key.Text == name && strings.Contains(strings.ToLower(e.Value.Text), "secrets.") && !strings.Contains(strings.ToLower(e.Value.Text), "secrets.github_token") {
						p.report(e.Key.Pos, "a token publishes to %s, which takes the job's identity instead", k.where)
					}
				}
			}
		}
	}
}
