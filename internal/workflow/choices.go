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
			if !isExpr(x.text.Text) || o.text(x.text, j, st) != outsider {
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
			look(choice{text: st.Shell, what: "the shell", mend: "write it out, or " + chooseAmong}, st)
			look(choice{text: st.WorkingDirectory, what: "the working directory", mend: "pass it by env and check it in the script", soft: true}, st)
		}
	}
}

// jobChoices are the choices of a job besides those of its steps.
func jobChoices(j *jobView) (out []choice) {
	add := func(t sallyport.Tree, x choice) {
		out = append(out, spread(t, x)...)
	}
	add(j.RunsOn, choice{what: "the runner of job " + quote(j.Key), mend: chooseAmong})
	image := choice{what: "the image of job " + quote(j.Key), mend: chooseAmong}
	image.text = imageOf(j.Container)
	out = append(out, image)
	for _, p := range j.Services.Pairs {
		image.what, image.text = "the image of service "+quote(p.Key.Text), imageOf(p.Value)
		out = append(out, image)
	}
	name := j.Environment
	if name.Kind == sallyport.TreeMap {
		name = entryOf(name, "name")
	}
	add(name, choice{what: "the environment of job " + quote(j.Key), mend: chooseAmong})
	return append(out, choice{text: j.Defaults.Shell, what: "the shell", mend: "write it out, or " + chooseAmong},
		choice{text: j.Defaults.WorkingDirectory, what: "the working directory", mend: "pass it by env and check it in the scripts", soft: true})
}

// spread is the choice for each text of a tree.
func spread(t sallyport.Tree, x choice) (out []choice) {
	if t.Text != "" {
		x.text = sallyport.Template{Text: t.Text, Pos: t.Pos}
		out = append(out, x)
	}
	for _, i := range t.Items {
		out = append(out, spread(i, x)...)
	}
	for _, p := range t.Pairs {
		out = append(out, spread(p.Value, x)...)
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
