package workflow

import (
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// choice is a field whose value chooses where or by what a job runs.
type choice struct {
	text sallyport.Template
	what string // what it chooses, for people
	mend string
	soft bool // a stranger gains nothing by it that the room does not allow
}

const chooseAmong = "compare the value in an expression that chooses among what you wrote: ${{ github.head_ref == 'x' && 'a' || 'b' }}"

// choices reports what text of anyone would choose: with such a value the event's sender
// decides on which runner, in which image or environment, or by which program a job
// runs. It is the shadow of the taint that values have at run time.
func (c *compiler) choices(u *unit) {
	severity := severityError
	if c.check != nil {
		severity = severityWarning // in the language it is valid, and nobody runs it now
	}
	s := &subject{file: u.file, work: maxLintWork, origins: map[originKey]origin{}, actions: map[string]*Action{}, calls: map[string]*Trigger{}}
	for i := range u.file.Jobs { // without what rules ask besides: this is done for every plan
		j := &jobView{Job: &u.file.Jobs[i], events: s.eventNames()}
		s.addSteps(j)
		s.jobs = append(s.jobs, j)
	}
	for _, j := range s.jobs {
		look := func(x choice, st *stepView) {
			o := &origins{s: s}
			if o.text(x.text, j, st) != outsider {
				return
			}
			as := severity
			if x.soft {
				as = severityWarning
			}
			c.diags.add(u.at.file, as, x.text.Pos, "%s is chosen by text that anyone can write: %s; %s", x.what, strings.TrimSpace(x.text.Text), x.mend)
		}
		for _, x := range jobChoices(j) {
			look(x, nil)
		}
		for _, st := range j.steps {
			for _, x := range runChoices(st.Shell, st.WorkingDirectory) {
				look(x, st)
			}
		}
	}
}

// runChoices are the choices of what runs scripts.
func runChoices(shell, dir sallyport.Template) (out []choice) {
	if isExpr(shell.Text) {
		out = append(out, choice{text: shell, what: "the shell", mend: "write it out, or " + chooseAmong})
	}
	if isExpr(dir.Text) {
		out = append(out, choice{text: dir, what: "the working directory", mend: "pass it by env and check it in the script", soft: true})
	}
	return out
}

// jobChoices are the choices of a job besides those of its steps.
func jobChoices(j *jobView) (out []choice) {
	add := func(t sallyport.Tree, what, name string) {
		out = spread(out, t, what, name)
	}
	add(j.RunsOn, "the runner of job", j.Key)
	image := func(t sallyport.Tree, what, name string) {
		of := imageOf(t)
		add(sallyport.Tree{Text: of.Text, Pos: of.Pos}, what, name)
	}
	image(j.Container, "the image of job", j.Key)
	for _, p := range j.Services.Pairs {
		image(p.Value, "the image of service", p.Key.Text)
	}
	environment := j.Environment
	if environment.Kind == sallyport.TreeMap {
		environment = entryOf(environment, "name")
	}
	add(environment, "the environment of job", j.Key)
	return append(out, runChoices(j.Defaults.Shell, j.Defaults.WorkingDirectory)...)
}

// spread appends the choice of each text of a tree that has expressions.
func spread(out []choice, t sallyport.Tree, what, name string) []choice {
	if isExpr(t.Text) {
		out = append(out, choice{text: sallyport.Template{Text: t.Text, Pos: t.Pos}, what: what + " " + quote(name), mend: chooseAmong})
	}
	for _, i := range t.Items {
		out = spread(out, i, what, name)
	}
	for _, p := range t.Pairs {
		out = spread(out, p.Value, what, name)
	}
	return out
}

func entryOf(t sallyport.Tree, key string) sallyport.Tree {
	for _, p := range t.Pairs {
		if p.Key.Text == key {
			return p.Value
		}
	}
	return sallyport.Tree{}
}
