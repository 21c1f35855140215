package workflow

import (
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

// What a job runs on and in: runner, environment, containers.

var (
	containerKeys = []string{"image", "credentials", "env", "ports", "volumes", "options"}
	serviceKeys   = append([]string{"entrypoint", "command"}, containerKeys...)
)

// runsOn reads a label, a sequence of labels, or a mapping of a group and labels.
func (d *decoder) runsOn(n *yaml.Node) sallyport.Tree {
	labels := n
	if n.Kind == yaml.MappingNode {
		labels = nil
		named := false
		for _, e := range d.fields(n, "runs-on", runsOnKeys) {
			named = true
			if e.key.Text == "labels" {
				labels = e.val
				continue
			}
			d.runnerGroup(e.val)
		}
		if !named {
			d.report(posOf(n), "runs-on names no runner: write for example ubuntu-latest")
		}
	}
	if labels != nil {
		d.labels(labels)
	}
	return d.quietly(n)
}

func (d *decoder) labels(n *yaml.Node) {
	if isNull(n) || n.Kind == yaml.ScalarNode && n.Value == "" || n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		d.report(posOf(n), "runs-on names no runner: write for example ubuntu-latest")
		return
	}
	d.list(n, "runs-on", &atJobRunsOn, true)
}

// runnerGroup checks the name of a group: of the repository's owner, or with the
// prefix that says whose it is.
func (d *decoder) runnerGroup(n *yaml.Node) {
	t := d.template(n, "runs-on.group", &atJobRunsOn)
	if !d.filled(n, "runs-on.group") || isExpr(t.Text) {
		return
	}
	owner, name, prefixed := strings.Cut(t.Text, "/")
	switch owner {
	case "org", "organization", "ent", "enterprise":
		if prefixed && name != "" && !strings.Contains(name, "/") {
			return
		}
	}
	if prefixed {
		d.report(t.Pos, "invalid runner group %s: write NAME, organization/NAME or enterprise/NAME", quote(t.Text))
	}
}

// environment reads a name, or a mapping.
func (d *decoder) environment(n *yaml.Node) sallyport.Tree {
	if n.Kind == yaml.ScalarNode {
		return d.tree(n, &atJobEnvironment)
	}
	t := sallyport.Tree{Kind: sallyport.TreeMap, Pos: posOf(n)}
	for _, e := range d.fields(n, "environment", environmentKeys) {
		at := &atJobEnvironment
		switch e.key.Text {
		case "url":
			at = &atJobEnvironmentURL
		case "deployment":
			v := d.boolean(e.val, "environment.deployment", at)
			kind, _ := scalar(e.val)
			t.Pairs = append(t.Pairs, sallyport.TreePair{Key: e.key, Value: sallyport.Tree{Kind: kind, Text: v.Text, Pos: v.Pos}})
			continue
		}
		v := sallyport.Tree{Kind: sallyport.TreeString, Pos: posOf(e.val)}
		v.Text = d.template(e.val, "environment."+e.key.Text, at).Text
		t.Pairs = append(t.Pairs, sallyport.TreePair{Key: e.key, Value: v})
	}
	d.require(n, "environment", "name")
	return t
}

// container reads an image's name, or a mapping. An empty name is no container.
func (d *decoder) container(n *yaml.Node, what string, keys []string) sallyport.Tree {
	if n.Kind != yaml.MappingNode {
		if n.Kind == yaml.SequenceNode {
			d.report(posOf(n), "%s must be an image, or a mapping with the keys %s, not a sequence", what, strings.Join(keys, ", "))
		}
		t := d.tree(n, &atJobContainer)
		if t.Kind == sallyport.TreeString && t.Text == "" {
			t.Kind = sallyport.TreeNull
		}
		return t
	}
	t := sallyport.Tree{Kind: sallyport.TreeMap, Pos: posOf(n)}
	for _, e := range d.fields(n, what, keys) {
		name := what + "." + e.key.Text
		v := sallyport.Tree{Pos: posOf(e.val)}
		switch e.key.Text {
		case "env":
			v = d.env(e.val, name, &atJobContainerEnv)
		case "credentials":
			v = d.credentials(e.val, name)
		case "ports", "volumes":
			d.list(e.val, name, &atJobContainer, false)
			v = d.quietly(e.val)
		default:
			v.Kind, v.Text = sallyport.TreeString, d.template(e.val, name, &atJobContainer).Text
			if e.key.Text == "image" {
				d.filled(e.val, name)
			}
		}
		t.Pairs = append(t.Pairs, sallyport.TreePair{Key: e.key, Value: v})
	}
	d.require(n, what, "image")
	return t
}

func (d *decoder) credentials(n *yaml.Node, what string) sallyport.Tree {
	if d.object(n, &atJobCredentials) {
		return d.quietly(n)
	}
	t := sallyport.Tree{Kind: sallyport.TreeMap, Pos: posOf(n)}
	for _, e := range d.fields(n, what, []string{"username", "password"}) {
		v := sallyport.Tree{Kind: sallyport.TreeString, Pos: posOf(e.val)}
		v.Text = d.template(e.val, what+"."+e.key.Text, &atJobCredentials).Text
		d.filled(e.val, what+"."+e.key.Text)
		t.Pairs = append(t.Pairs, sallyport.TreePair{Key: e.key, Value: v})
	}
	return t
}

// services reads a mapping of ids to containers.
func (d *decoder) services(n *yaml.Node) sallyport.Tree {
	if d.object(n, &atJobContainer) {
		return d.quietly(n)
	}
	t := sallyport.Tree{Kind: sallyport.TreeMap, Pos: posOf(n)}
	if n.Kind != yaml.MappingNode {
		d.report(t.Pos, "services must be a mapping of ids to containers, not %s", kindName(n))
		return sallyport.Tree{}
	}
	for _, e := range d.entries(n) {
		what := "service " + quote(e.key.Text)
		v := d.container(e.val, what, serviceKeys)
		if e.val.Kind == yaml.ScalarNode {
			d.filled(e.val, what)
		}
		t.Pairs = append(t.Pairs, sallyport.TreePair{Key: e.key, Value: v})
	}
	return t
}

// quietly reads a value that was checked already.
func (d *decoder) quietly(n *yaml.Node) sallyport.Tree {
	diags := d.diags
	t := d.tree(n, nil)
	d.diags = diags
	return t
}
