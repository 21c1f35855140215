package workflow

import (
	"maps"
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
	"go.yaml.in/yaml/v3"
)

// Trigger is one event of a workflow's "on", with its filters.
type Trigger struct {
	Name           string
	Pos            sallyport.Pos
	Types          []sallyport.Template
	Branches       []sallyport.Template
	BranchesIgnore []sallyport.Template
	Tags           []sallyport.Template
	TagsIgnore     []sallyport.Template
	Paths          []sallyport.Template
	PathsIgnore    []sallyport.Template
	Workflows      []sallyport.Template // of workflow_run
	Schedules      []Schedule           // of schedule
	Inputs         []Input              // of workflow_dispatch and workflow_call
	Outputs        []sallyport.PlanOutput
	Secrets        []CallSecret
}

// Schedule is one item of a schedule trigger.
type Schedule struct {
	Cron     sallyport.Template
	Timezone sallyport.Template
}

// Input is an input that a workflow declares.
type Input struct {
	Name     string
	Pos      sallyport.Pos
	Type     string // string, boolean, number, choice, environment
	Required bool
	Default  sallyport.Tree
	Options  []sallyport.Template // of a choice

	Deprecated string // why it should not be used any more
}

// CallSecret is a secret that a reusable workflow declares.
type CallSecret struct {
	Name     string
	Required bool
}

// eventSpec says what may be written below an event.
type eventSpec struct {
	keys  []string
	types []string // activity types that exist; nil: any, if keys has "types"
	// defaults are the types that trigger when none are given; nil: all.
	defaults []string
}

var (
	refKeys  = []string{"branches", "branches-ignore", "tags", "tags-ignore", "paths", "paths-ignore"}
	pullKeys = []string{"types", "branches", "branches-ignore", "paths", "paths-ignore"}

	pullTypes = []string{
		"assigned", "unassigned", "labeled", "unlabeled", "opened", "edited", "closed", "reopened", "synchronize",
		"converted_to_draft", "locked", "unlocked", "enqueued", "dequeued", "milestoned", "demilestoned",
		"ready_for_review", "review_requested", "review_request_removed", "auto_merge_enabled", "auto_merge_disabled", "stacked",
	}
	pullDefaults = []string{"opened", "synchronize", "reopened"}
)

func typed(types ...string) eventSpec { return eventSpec{keys: []string{"types"}, types: types} }

// events are the events that may stand below "on".
var events = map[string]eventSpec{
	"branch_protection_rule":      typed("created", "edited", "deleted"),
	"check_run":                   typed("created", "rerequested", "completed", "requested_action"),
	"check_suite":                 typed("completed", "requested", "rerequested"),
	"create":                      {},
	"delete":                      {},
	"deployment":                  {},
	"deployment_status":           {},
	"discussion":                  typed("created", "edited", "deleted", "transferred", "pinned", "unpinned", "labeled", "unlabeled", "locked", "unlocked", "category_changed", "answered", "unanswered", "closed", "reopened"),
	"discussion_comment":          typed("created", "edited", "deleted"),
	"fork":                        {},
	"gollum":                      {},
	"image_version":               {keys: []string{"types", "names", "versions"}, types: []string{"created", "ready", "deleted"}},
	"issue_comment":               typed("created", "edited", "deleted", "pinned", "unpinned"),
	"issues":                      typed("opened", "edited", "deleted", "transferred", "pinned", "unpinned", "closed", "reopened", "assigned", "unassigned", "labeled", "unlabeled", "locked", "unlocked", "milestoned", "demilestoned", "typed", "untyped", "field_added", "field_removed"),
	"label":                       typed("created", "edited", "deleted"),
	"merge_group":                 {keys: []string{"types", "branches", "branches-ignore"}, types: []string{"checks_requested"}, defaults: []string{"checks_requested"}},
	"milestone":                   typed("created", "closed", "opened", "edited", "deleted"),
	"page_build":                  {},
	"project":                     typed("created", "updated", "closed", "reopened", "edited", "deleted"),
	"project_card":                typed("created", "moved", "converted", "edited", "deleted"),
	"project_column":              typed("created", "updated", "moved", "deleted"),
	"public":                      {},
	"pull_request":                {keys: pullKeys, types: pullTypes, defaults: pullDefaults},
	"pull_request_comment":        {keys: []string{"types", "branches", "branches-ignore", "paths", "paths-ignore"}, types: []string{"created", "edited", "deleted"}},
	"pull_request_review":         {keys: pullKeys, types: []string{"submitted", "edited", "dismissed"}},
	"pull_request_review_comment": {keys: pullKeys, types: []string{"created", "edited", "deleted"}},
	"pull_request_target":         {keys: pullKeys, types: pullTypes, defaults: pullDefaults},
	"push":                        {keys: refKeys},
	"registry_package":            typed("published", "updated"),
	"release":                     typed("published", "unpublished", "created", "edited", "deleted", "prereleased", "released"),
	"repository_dispatch":         {keys: []string{"types"}},
	"schedule":                    {},
	"status":                      {},
	"watch":                       typed("started"),
	"workflow_call":               {keys: []string{"inputs", "outputs", "secrets"}},
	"workflow_dispatch":           {keys: []string{"inputs"}},
	"workflow_run":                {keys: []string{"types", "workflows", "branches", "branches-ignore"}, types: []string{"requested", "in_progress", "completed"}},
}

func eventNames() []string { return slices.Sorted(maps.Keys(events)) }

// triggers reads "on": an event, a sequence of events, or a mapping of events
// to their filters.
func (d *decoder) triggers(n *yaml.Node) []Trigger {
	var out []Trigger
	switch {
	case n.Kind == yaml.ScalarNode:
		out = append(out, d.trigger(d.text(n, "on"), nil))
	case n.Kind == yaml.SequenceNode:
		for _, t := range d.texts(n, "on") {
			out = append(out, d.trigger(t, nil))
		}
	case n.Kind == yaml.MappingNode:
		for _, e := range d.entries(n) {
			out = append(out, d.trigger(e.key, e.val))
		}
	}
	if len(out) == 0 {
		d.report(posOf(n), "on names no event: add for example push")
	}
	return out
}

func (d *decoder) trigger(name sallyport.Template, n *yaml.Node) Trigger {
	t := Trigger{Name: name.Text, Pos: name.Pos}
	spec, ok := events[name.Text]
	if !ok {
		d.report(name.Pos, "unknown event %s%s", quote(name.Text), didYouMean(name.Text, eventNames()))
		return t
	}
	if t.Name == "schedule" {
		t.Schedules = d.schedules(name, n)
		return t
	}
	if n == nil || isNull(n) {
		if t.Name == "workflow_run" {
			d.report(name.Pos, "workflow_run needs the key \"workflows\": name the workflows to follow")
		}
		return t
	}
	var paths = map[string]sallyport.Pos{}
	for _, e := range d.filters(n, t.Name, spec.keys) {
		what := "on." + t.Name + "." + e.key.Text
		paths[e.key.Text] = e.key.Pos
		switch e.key.Text {
		case "types":
			t.Types = d.activity(e.val, what, spec.types)
		case "branches":
			t.Branches = d.patterns(e.val, what)
		case "branches-ignore":
			t.BranchesIgnore = d.patterns(e.val, what)
		case "tags":
			t.Tags = d.patterns(e.val, what)
		case "tags-ignore":
			t.TagsIgnore = d.patterns(e.val, what)
		case "paths":
			t.Paths = d.patterns(e.val, what)
		case "paths-ignore":
			t.PathsIgnore = d.patterns(e.val, what)
		case "names", "versions":
			d.texts(e.val, what)
			d.filled(e.val, what)
		case "workflows":
			t.Workflows = d.texts(e.val, what)
			d.filled(e.val, what)
		case "inputs":
			t.Inputs = d.inputs(e.val, what, t.Name == "workflow_call")
		case "outputs":
			t.Outputs = d.callOutputs(e.val, what)
		case "secrets":
			t.Secrets = d.callSecrets(e.val, what)
		}
	}
	for _, key := range []string{"branches", "tags", "paths"} {
		if pos, both := paths[key+"-ignore"]; both && paths[key].Line > 0 {
			d.report(pos, "on.%s has both %s and %s-ignore: use %s alone, with patterns that start with ! to leave something out", t.Name, key, key, key)
		}
	}
	return t
}

// filterKeys are the filters of all events.
var filterKeys = append([]string{"types", "workflows", "names", "versions"}, refKeys...)

// filters returns the entries of an event's filters. A filter that the event
// does not have, or one that is misspelt, GitHub leaves out of account in
// silence; here it is a warning.
func (d *decoder) filters(n *yaml.Node, event string, known []string) []entry {
	what := "on." + event
	if n.Kind != yaml.MappingNode {
		d.report(posOf(n), "%s must be empty or a mapping of filters, not %s", what, kindName(n))
		return nil
	}
	all := d.entries(n)
	out := all[:0]
	for _, e := range all {
		key := e.key.Text
		meant := strings.ReplaceAll(strings.ToLower(key), "_", "-")
		switch {
		case slices.Contains(known, key):
			out = append(out, e)
		case len(known) == 0:
			d.warn(e.key.Pos, "the event %s has no filters: GitHub ignores %s; remove it", event, quote(key))
		case slices.ContainsFunc(filterKeys, func(f string) bool { return meant == f || nearest(meant, []string{f}) != "" }):
			d.warn(e.key.Pos, "the event %s has no filter %s%s: GitHub ignores it; there are %s", event, quote(key), didYouMean(meant, known), strings.Join(known, ", "))
		default:
			d.report(e.key.Pos, "unknown key %s in %s; allowed are %s", quote(key), what, strings.Join(known, ", "))
		}
	}
	return out
}

func (d *decoder) activity(n *yaml.Node, what string, allowed []string) []sallyport.Template {
	out := d.texts(n, what)
	if !isNull(n) { // which GitHub takes for no filter
		d.filled(n, what)
	}
	for _, t := range out {
		if allowed != nil && !slices.Contains(allowed, t.Text) {
			d.report(t.Pos, "unknown activity type %s in %s%s; there are %s", quote(t.Text), what, didYouMean(t.Text, allowed), strings.Join(allowed, ", "))
		}
	}
	return out
}

// patterns reads filter patterns and checks that they can be matched.
func (d *decoder) patterns(n *yaml.Node, what string) []sallyport.Template {
	out := d.texts(n, what)
	if !isNull(n) { // which GitHub takes for no filter
		d.filled(n, what)
	}
	if len(out) > maxPatterns {
		d.report(out[maxPatterns].Pos, "%s has more than %d patterns", what, maxPatterns)
		return nil
	}
	negative := 0
	for _, t := range out {
		if err := checkPattern(strings.TrimPrefix(t.Text, "!")); err != nil {
			d.report(t.Pos, "invalid pattern %s: %v", quote(t.Text), err)
		}
		if strings.HasPrefix(t.Text, "!") {
			negative++
		}
	}
	if negative > 0 && negative == len(out) && !strings.HasSuffix(what, "-ignore") {
		d.warn(out[0].Pos, "%s has only patterns that leave something out, so that nothing ever matches: add one without !, for example **", what)
	}
	return out
}

func (d *decoder) schedules(name sallyport.Template, n *yaml.Node) []Schedule {
	if n == nil || n.Kind != yaml.SequenceNode {
		d.report(name.Pos, "schedule must be a sequence of cron entries, for example - cron: '0 4 * * 1'")
		return nil
	}
	var out []Schedule
	for _, c := range n.Content {
		var s Schedule
		for _, e := range d.fields(c, "on.schedule", []string{"cron", "timezone"}) {
			t := d.text(e.val, "on.schedule."+e.key.Text)
			d.filled(e.val, "on.schedule."+e.key.Text)
			if e.key.Text == "timezone" {
				s.Timezone = t
				continue
			}
			s.Cron = t
			if err := checkCron(t.Text); err != nil && t.Text != "" {
				d.report(t.Pos, "invalid cron expression %s: %v", quote(t.Text), err)
			}
		}
		d.require(c, "an item of on.schedule", "cron")
		out = append(out, s)
	}
	return out
}

var (
	inputKeys       = []string{"description", "required", "default", "type", "options", "deprecationMessage"}
	callInputKeys   = []string{"description", "required", "default", "type", "deprecationMessage"}
	callOutputKeys  = []string{"description", "value"}
	callSecretKeys  = []string{"description", "required"}
	inputTypes      = []string{"string", "boolean", "choice", "number", "environment"}
	callInputTypes  = []string{"string", "boolean", "number"}
	defaultsOfTypes = map[string]sallyport.TreeKind{"boolean": sallyport.TreeBool, "number": sallyport.TreeNumber}
)

func (d *decoder) inputs(n *yaml.Node, what string, call bool) []Input {
	if isNull(n) && !call {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		d.report(posOf(n), "%s must be a mapping of names to inputs, not %s", what, kindName(n))
		return nil
	}
	keys, types := inputKeys, inputTypes
	if call {
		keys, types = callInputKeys, callInputTypes
	}
	entries := d.entries(n)
	if !call && len(entries) > maxInputs {
		d.report(entries[maxInputs].key.Pos, "%s has %d inputs; at most %d are allowed", what, len(entries), maxInputs)
		entries = entries[:maxInputs]
	}
	var out []Input
	for _, e := range entries {
		d.identifier(e.key, "the input name")
		out = append(out, d.input(e, keys, types, call))
	}
	return out
}

func (d *decoder) input(at entry, keys, types []string, call bool) Input {
	in := Input{Name: at.key.Text, Pos: at.key.Pos, Type: "string"}
	if isNull(at.val) && !call {
		return in
	}
	what := "input " + quote(in.Name)
	hasType := false
	for _, e := range d.fields(at.val, what, keys) {
		switch e.key.Text {
		case "type":
			hasType = true
			in.Type = d.oneOf(e.val, "the type of "+what, types)
		case "required":
			in.Required = d.flag(e.val, "required")
		case "default":
			if call {
				in.Default = d.tree(e.val, &atCallDefault)
			} else {
				in.Default = d.tree(e.val, &atDispatchDefault)
			}
		case "options":
			in.Options = d.texts(e.val, "options")
		case "deprecationMessage":
			in.Deprecated = d.text(e.val, "deprecationMessage").Text
		}
	}
	switch {
	case call && !hasType:
		d.report(in.Pos, "%s has no type: add type: string, boolean or number", what)
	case in.Type == "choice" && len(in.Options) == 0 && !call:
		d.report(in.Pos, "%s is a choice without options: add them", what)
	case in.Type != "choice" && in.Options != nil:
		d.report(in.Options[0].Pos, "%s has options but is no choice: add type: choice", what)
	}
	d.inputDefault(in, what)
	return in
}

// inputDefault checks that the default is of the input's type.
func (d *decoder) inputDefault(in Input, what string) {
	v := in.Default
	if v.IsZero() || v.Kind == sallyport.TreeNull || v.Kind == sallyport.TreeString && isExpr(v.Text) {
		return
	}
	switch want := defaultsOfTypes[in.Type]; {
	case v.Kind == sallyport.TreeSeq || v.Kind == sallyport.TreeMap:
		d.report(v.Pos, "the default of %s must be text, a number or a boolean", what)
	case want == sallyport.TreeBool && v.Text != "true" && v.Text != "false":
		d.report(v.Pos, "the default of %s must be true or false, not %s", what, quote(v.Text))
	case want == sallyport.TreeNumber && (v.Text == "" || !isDecimal(v.Text)):
		d.report(v.Pos, "the default of %s must be a number, not %s", what, quote(v.Text))
	case in.Type == "choice" && !slices.ContainsFunc(in.Options, func(o sallyport.Template) bool { return o.Text == v.Text }):
		d.report(v.Pos, "the default of %s is %s, which is none of its options", what, quote(v.Text))
	}
}

func (d *decoder) callOutputs(n *yaml.Node, what string) []sallyport.PlanOutput {
	if n.Kind != yaml.MappingNode {
		d.report(posOf(n), "%s must be a mapping of names to outputs, not %s", what, kindName(n))
		return nil
	}
	var out []sallyport.PlanOutput
	for _, e := range d.entries(n) {
		d.identifier(e.key, "the output name")
		o := sallyport.PlanOutput{Name: e.key.Text}
		for _, f := range d.fields(e.val, "output "+quote(o.Name), callOutputKeys) {
			if f.key.Text == "value" {
				o.Value = d.template(f.val, "value", &atCallOutput)
			}
		}
		d.require(e.val, "output "+quote(o.Name), "value")
		out = append(out, o)
	}
	return out
}

func (d *decoder) callSecrets(n *yaml.Node, what string) []CallSecret {
	if n.Kind != yaml.MappingNode {
		d.report(posOf(n), "%s must be a mapping of names to secrets, not %s", what, kindName(n))
		return nil
	}
	var out []CallSecret
	for _, e := range d.entries(n) {
		d.identifier(e.key, "the secret name")
		if equalFold(e.key.Text, "github_token") {
			d.report(e.key.Pos, "the secret name %s is reserved: a called workflow has github.token without being given it", quote(e.key.Text))
		}
		s := CallSecret{Name: e.key.Text}
		if !isNull(e.val) {
			for _, f := range d.fields(e.val, "secret "+quote(s.Name), callSecretKeys) {
				if f.key.Text == "required" {
					s.Required = d.flag(f.val, "required")
				}
			}
		}
		out = append(out, s)
	}
	return out
}

// IsEvent reports whether workflows can name the event below "on".
func IsEvent(name string) bool {
	_, ok := events[name]
	return ok
}
