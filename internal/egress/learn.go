package egress

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport"
)

// maxNotes bounds what is told besides the change.
const maxNotes = 50

// Seen is what one job of one run sent to its door.
type Seen struct {
	Job   string // its key
	Flows []sallyport.Flow
}

// need is a host and port that jobs asked for and no rule lets through.
type need struct {
	host    string
	port    int
	jobs    map[string]bool
	guessed bool // the port: the job only asked for the name
}

// Learn proposes the smallest addition to a rules file with which what was seen would
// have been let through: of each host its exact name, the ports asked for, and the jobs that
// asked, unless all did. Comments and order of the file stay. It proposes no wildcard, and
// nothing that was refused for another reason than that no rule named it. An empty file
// gets the given level. CodeInvalid when the file has mistakes or cannot be added to.
func Learn(file []byte, level sallyport.EgressLevel, seen []Seen) (sallyport.EgressProposal, error) {
	p := sallyport.EgressProposal{File: string(file)}
	rules := sallyport.EgressRules{Level: level}
	if len(file) > 0 {
		var diags []sallyport.Diagnostic
		if rules, diags = Parse(file); len(diags) > 0 {
			return p, sallyport.Errorf(sallyport.CodeInvalid, "%s", diags[0]).WithHint("mend the file first; sallyport egress check names every mistake")
		}
	}
	l := learner{rules: rules, jobs: map[string]bool{}, matchers: map[string]*Matcher{}, used: map[string]bool{}, odd: map[string]int{}}
	for _, s := range seen {
		l.jobs[s.Job] = true
		for _, f := range s.Flows {
			l.look(s.Job, f)
		}
	}
	if entries := l.entries(); len(entries) > 0 {
		changed, err := insert(string(file), rules.Level, entries)
		if err != nil {
			return p, err
		}
		if _, diags := Parse([]byte(changed)); len(diags) > 0 {
			return p, sallyport.Errorf(sallyport.CodeInvalid, "what is needed does not fit the file: %s", diags[0]).WithHint("add the hosts by hand")
		}
		p.File = changed
		p.Diff = string(diff.Diff("a/"+File, file, "b/"+File, []byte(changed)))
	}
	p.Notes = l.notes()
	return p, nil
}

type learner struct {
	rules    sallyport.EgressRules
	jobs     map[string]bool
	matchers map[string]*Matcher
	needs    []*need
	used     map[string]bool // rules that let something through, by place
	odd      map[string]int  // what cannot be learned
}

func (l *learner) matcher(job string) *Matcher {
	m := l.matchers[job]
	if m == nil {
		rules := l.rules
		rules.Observe = false
		if rules.Level == sallyport.EgressNone { // it will be listed
			rules.Level = sallyport.EgressListed
		}
		m = NewMatcher(rules, job)
		l.matchers[job] = m
	}
	return m
}

func (l *learner) look(job string, f sallyport.Flow) {
	host := Canonical(f.Host)
	if !ValidHost(host) {
		if f.Decision != sallyport.EgressAllowed {
			l.odd[fmt.Sprintf("%s %s asked for %s, which no rule can name (%s)", f.Protocol, cmp.Or(f.Address, "without an address"), cmp.Or(f.Host, "no host"), cmp.Or(f.Reason, "refused"))] += f.Count
		}
		return
	}
	var a Answer
	if f.Port == 0 || f.Protocol == "dns" {
		a = l.matcher(job).Name(host)
	} else {
		a = l.matcher(job).Connect(host, f.Port)
	}
	switch {
	case a.Decision == sallyport.EgressAllowed:
		l.used[a.Rule] = true
		if f.Decision == sallyport.EgressDenied && f.Reason != ReasonHost && f.Reason != ReasonPort && f.Reason != ReasonLevel {
			l.odd[fmt.Sprintf("%s: a request was refused (%s) although %s names the host; change that rule by hand if it should pass", host, f.Reason, a.Rule)] += f.Count
		}
	case f.Decision == sallyport.EgressAllowed: // by a rule that is gone, or by the firewall
	case f.Reason != ReasonHost && f.Reason != ReasonPort && f.Reason != ReasonLevel && f.Decision != sallyport.EgressObserved:
		l.odd[fmt.Sprintf("%s: refused (%s), whatever rules say", host, f.Reason)] += f.Count
	default:
		port := f.Port
		if f.Protocol == "dns" {
			port = 0
		}
		l.add(host, port, job)
	}
}

// add notes a need. Port 0 is a question for the name alone.
func (l *learner) add(host string, port int, job string) {
	for _, n := range l.needs {
		if n.host != host {
			continue
		}
		if port == 0 { // the connection that followed is known
			n.jobs[job] = true
			return
		}
		if n.guessed {
			n.port, n.guessed = port, false
		}
		if n.port == port {
			n.jobs[job] = true
			return
		}
	}
	n := &need{host: host, port: port, jobs: map[string]bool{job: true}}
	if port == 0 {
		n.port, n.guessed = 443, true
	}
	l.needs = append(l.needs, n)
}

// entries are the rules to add: one for each host and set of jobs, by host.
func (l *learner) entries() [][]string {
	type key struct{ host, jobs string }
	ports, guessed := map[key][]int{}, map[key]bool{}
	for _, n := range l.needs {
		k := key{n.host, strings.Join(slices.Sorted(maps.Keys(n.jobs)), ", ")}
		ports[k] = append(ports[k], n.port)
		guessed[k] = guessed[k] || n.guessed
	}
	all := strings.Join(slices.Sorted(maps.Keys(l.jobs)), ", ")
	keys := slices.SortedFunc(maps.Keys(ports), func(a, b key) int { return cmp.Or(strings.Compare(a.host, b.host), strings.Compare(a.jobs, b.jobs)) })
	var out [][]string
	for _, k := range keys {
		lines := []string{"- host: " + scalar(k.host)}
		if guessed[k] {
			lines[0] += " # asked for by name; the port is a guess"
		}
		slices.Sort(ports[k])
		if p := slices.Compact(ports[k]); len(p) > 1 || p[0] != 443 {
			var words []string
			for _, n := range p {
				words = append(words, strconv.Itoa(n))
			}
			lines = append(lines, "  ports: ["+strings.Join(words, ", ")+"]")
		}
		named := slices.ContainsFunc(l.rules.Rules, func(r sallyport.EgressRule) bool { return below(r.Host, k.host) })
		if k.jobs != all || named { // beside another rule of the host it must not take that one's place
			lines = append(lines, "  jobs: ["+k.jobs+"]")
		}
		out = append(out, lines)
	}
	return out
}

// scalar writes a host so that YAML reads it as text.
func scalar(host string) string {
	var v any
	if err := yaml.Unmarshal([]byte(host), &v); err == nil {
		if _, ok := v.(string); ok {
			return host
		}
	}
	return strconv.Quote(host)
}

func (l *learner) notes() []string {
	var out []string
	for _, text := range slices.Sorted(maps.Keys(l.odd)) {
		out = append(out, fmt.Sprintf("%s, %d times", text, l.odd[text]))
	}
	for _, r := range l.rules.Rules {
		if where := Rule(r.Pos); !l.used[where] {
			out = append(out, fmt.Sprintf("%s (%s) let nothing through in these runs; take it out if nothing else needs it", where, r.Host))
		}
	}
	if l.rules.Observe {
		out = append(out, "observe: true lets everything through; take it out when the rules are complete")
	}
	if len(out) > maxNotes {
		out = append(out[:maxNotes], fmt.Sprintf("and %d more", len(out)-maxNotes))
	}
	return out
}

// insert adds entries to the list allow: of a file.
func insert(file string, level sallyport.EgressLevel, entries [][]string) (string, error) {
	if level == sallyport.EgressNone || level == "" {
		level = sallyport.EgressListed
	}
	if file == "" {
		return "network: " + string(level) + "\nallow:\n" + strings.Join(block(entries, "  "), "\n") + "\n", nil
	}
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(file), &root); err != nil {
		return "", err
	}
	lines := strings.SplitAfter(strings.TrimSuffix(file, "\n")+"\n", "\n")
	lines = lines[:len(lines)-1]
	top := root.Content[0]
	if top.Style&yaml.FlowStyle != 0 {
		return "", flowStyle(1)
	}
	var allow, network *yaml.Node
	end := len(lines)
	for i := 0; i+1 < len(top.Content); i += 2 {
		k, v := top.Content[i], top.Content[i+1]
		switch {
		case k.Value == "allow":
			allow = v
		case allow != nil && end == len(lines):
			end = k.Line - 1
		}
		if k.Value == "network" {
			network = v
		}
	}
	if network.Value == string(sallyport.EgressNone) && level == sallyport.EgressListed {
		at := network.Line - 1
		before, rest := lines[at][:network.Column-1], lines[at][network.Column-1:]
		lines[at] = before + strings.Replace(rest, network.Value, string(level), 1)
	}
	indent := "  "
	var added []string
	if allow == nil {
		added = append(added, "allow:")
	} else {
		if allow.Style&yaml.FlowStyle != 0 {
			return "", flowStyle(allow.Line)
		}
		indent = strings.Repeat(" ", allow.Column-1)
	}
	for end > 0 { // what stands between the last entry and what follows stays there
		if t := strings.TrimSpace(lines[end-1]); t != "" && !strings.HasPrefix(t, "#") && t != "..." {
			break
		}
		end--
	}
	added = append(added, block(entries, indent)...)
	for i := range added {
		added[i] += "\n"
	}
	return strings.Join(slices.Insert(lines, end, added...), ""), nil
}

func flowStyle(line int) error {
	return sallyport.Errorf(sallyport.CodeInvalid, "%s:%d: what stands in brackets cannot be added to", File, line).
		WithHint("write each rule in a line of its own that begins with a dash")
}

func block(entries [][]string, indent string) []string {
	var out []string
	for _, e := range entries {
		for _, line := range e {
			out = append(out, indent+line)
		}
	}
	return out
}
