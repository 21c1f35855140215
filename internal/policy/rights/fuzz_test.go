package rights

import (
	"errors"
	"testing"
)

// Whatever the text, compiling it returns findings or a set that answers; and a
// set that was taken never lets in somebody whom no permit names.
func FuzzCompile(f *testing.F) {
	f.Add(string(builtinText))
	f.Add(`permit (principal == Person::"person/anna", action == Action::"read", resource == Project::"shop") when { context.at < datetime("2026-11-29") };`)
	f.Add(`@id("x") forbid (principal in Team::"ops", action in [Action::"read"], resource is Environment in Project::"shop") unless { resource.environment == Environment::"shop/production" };`)
	f.Add(`forbid (principal is Job, action, resource) when { principal has environment && [1, 2].contains(principal.tier) && "a" like "*\*" };`)
	f.Add(`permit (principal, action, resource) when { if true then {"a": -1}.a == 1 else ip("::1").isLoopback() };`)
	f.Add("permit(principal,action,resource)when{!!!!!!-----1<2};")
	w := town(f)
	stranger := Of(TypePerson, "person/nobody names me")
	f.Fuzz(func(t *testing.T, source string) {
		s, err := Compile(Layer{Name: "access.cedar", Source: []byte(source)})
		if err != nil {
			var found Findings
			if !errors.As(err, &found) || len(found) == 0 || found[0].Text == "" {
				t.Fatalf("refused without a finding: %v", err)
			}
			return
		}
		for _, action := range s.Actions() {
			for _, what := range w.Of(TypeProject, TypeEnvironment, TypeInstance, TypeSecret) {
				for _, who := range w.Of(TypePerson, TypeBot, TypeAgent, TypeJob, TypeService) {
					d := ask(s, w, who, action, what)
					if d.Allowed && len(d.Determining) == 0 {
						t.Fatalf("%s may %s %s without a policy", who, action, what)
					}
				}
				if ask(s, w, stranger, action, what).Allowed {
					t.Fatalf("a stranger may %s %s", action, what)
				}
			}
		}
		if _, err := Compare(t.Context(), s, w, s, w); err != nil {
			t.Fatal(err)
		}
	})
}
