package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// Every method of every service and of the yard can be called from afar: its
// arguments arrive, its results come back, and so do errors.
func TestEveryMethod(t *testing.T) {
	t.Parallel()
	s := start(t)
	client := s.client(t)
	remote, local := reflect.ValueOf(client.Services()), reflect.TypeFor[sallyport.Services]()
	calls := 0
	for i := range local.NumField() {
		calls += everyMethod(t, s, local.Field(i).Name, local.Field(i).Type, remote.Field(i))
	}
	calls += everyMethod(t, s, "Yard", reflect.TypeFor[sallyport.Yard](), reflect.ValueOf(client.Yard()))
	if calls < 50 {
		t.Errorf("only %d calls were tried", calls)
	}
}

func everyMethod(t *testing.T, s *site, service string, iface reflect.Type, remote reflect.Value) int {
	for i := range iface.NumMethod() {
		m := iface.Method(i)
		name := service + "." + m.Name
		call := func() []reflect.Value { return remote.MethodByName(m.Name).Call(arguments(t, m.Type)) }
		t.Run(name, func(t *testing.T) {
			want := plain(t, arguments(t, m.Type)[1:])
			out := call()
			if err := errorOf(out); err != nil {
				t.Fatal(err)
			}
			got := s.got(name)
			if g := fmt.Sprint(encoded(t, got...)); g != fmt.Sprint(encoded(t, want...)) {
				t.Errorf("arguments arrived as\n%s, sent\n%s", g, encoded(t, want...))
			}
			if len(out) > 1 {
				g := encoded(t, plain(t, out[:len(out)-1])...)
				s.mu.Lock()
				results := s.results[name]
				s.mu.Unlock()
				// Readers were used up; they are made again.
				var want []any
				for j, r := range results {
					if _, ok := r.(io.ReadCloser); ok {
						r = plain(t, []reflect.Value{remade(m.Type.Out(j), j)})[0]
					}
					want = append(want, r)
				}
				if w := encoded(t, want...); fmt.Sprint(g) != fmt.Sprint(w) {
					t.Errorf("results came back as\n%s, want\n%s", g, w)
				}
			}
			if m.Type.NumOut() == 0 {
				return
			}
			for _, code := range []sallyport.Code{sallyport.CodeInvalid, sallyport.CodeDenied, sallyport.CodeNotFound,
				sallyport.CodeConflict, sallyport.CodeUnavailable, sallyport.CodeInternal} {
				s.fail(&sallyport.Error{Code: code, Message: "message <&>", Hint: "hint", Err: errors.New("secret cause")})
				err := errorOf(call())
				s.fail(nil)
				var e *sallyport.Error
				if !errors.As(err, &e) || e.Code != code {
					t.Errorf("error %s came back as %v", code, err)
					continue
				}
				if code == sallyport.CodeInternal {
					if e.Message == "message <&>" {
						t.Error("an internal error was told")
					}
				} else if e.Message != "message <&>" || e.Hint != "hint" {
					t.Errorf("error came back as %+v", e)
				}
			}
		})
	}
	return iface.NumMethod()
}

func (s *site) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func arguments(t *testing.T, m reflect.Type) []reflect.Value {
	args := []reflect.Value{reflect.ValueOf(t.Context())}
	seed := 7
	for i := 1; i < m.NumIn(); i++ {
		v := reflect.New(m.In(i)).Elem()
		fill(v, &seed, 0)
		args = append(args, v)
	}
	return args
}

func remade(typ reflect.Type, result int) reflect.Value {
	seed := []int{1, 40}[result]
	v := reflect.New(typ).Elem()
	fill(v, &seed, 0)
	return v
}

func errorOf(out []reflect.Value) error {
	if len(out) == 0 {
		return nil
	}
	err, _ := out[len(out)-1].Interface().(error)
	return err
}

// plain reads readers.
func plain(t *testing.T, vs []reflect.Value) []any {
	var out []any
	for _, v := range vs {
		x := v.Interface()
		if secret, ok := x.(sallyport.Secret); ok {
			x = string(secret.Reveal())
		}
		if r, ok := x.(io.Reader); ok {
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			x = string(b)
		}
		out = append(out, x)
	}
	return out
}

func encoded(t *testing.T, vs ...any) []string {
	var out []string
	for _, v := range vs {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	return out
}

// What the root's JSON leaves out, and the wire carries.
func TestHiddenParts(t *testing.T) {
	t.Parallel()
	s := start(t)
	svc := s.client(t).Services()
	v, err := svc.Gates.Verdict(t.Context(), sallyport.VerdictID("v"))
	if want := made[sallyport.Verdict](1); err != nil || string(v.Policy) != string(want.Policy) || string(v.Input) != string(want.Input) {
		t.Errorf("Verdict = %q, %q, %v", v.Policy, v.Input, err)
	}
	checked, err := svc.Artifacts.Verify(t.Context(), "p", "sha256:x")
	if want := made[[]sallyport.Checked](1); err != nil || len(checked) != 2 || string(checked[1].Predicate) != string(want[1].Predicate) {
		t.Errorf("Verify = %+v, %v", checked, err)
	}
	plan, err := svc.Runs.Plan(t.Context(), "r")
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ := plan.Encode()
	_, want, _ := made[*sallyport.Plan](1).Encode()
	if got != want {
		t.Errorf("the plan's digest became %s, want %s", got, want)
	}
}
