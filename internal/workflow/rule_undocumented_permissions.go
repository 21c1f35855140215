package workflow

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

var ruleUndocumentedPermissions = Rule{
	ID: "undocumented-permissions", Severity: SeverityLow, Confidence: ConfidenceHigh,
	Title: "a permission to write without a word why",
	Why:   "Who reviews the workflow later cannot tell whether the permission is still needed.",
	Mend:  "put a comment behind it or in the line above: packages: write # pushes the image",
	check: checkUndocumentedPermissions,
}

func checkUndocumentedPermissions(p *pass) {
	blocks := []*yaml.Node{p.root}
	for _, j := range p.jobs {
		blocks = append(blocks, j.node)
	}
	for _, b := range blocks {
		_, v := lookup(b, "permissions")
		if v == nil || v.Kind != yaml.MappingNode {
			continue
		}
		for i := 0; i+1 < len(v.Content); i += 2 {
			k := v.Content[i]
			if v.Content[i+1].Value == "write" && !strings.Contains(p.line(k.Line), "#") && !strings.HasPrefix(strings.TrimSpace(p.line(k.Line-1)), "#") {
				p.report(posOf(k), "nothing says why %s may be written", k.Value)
			}
		}
	}
}
