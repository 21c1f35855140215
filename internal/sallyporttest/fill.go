package sallyporttest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// Epoch is the time at which the suites' things happen, with the microseconds that a store keeps.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

// filled returns a T of which no field is zero, each with a value of its own:
// a field that an implementation forgets or swaps shows, also one that is added later.
func filled[T any](t testing.TB) T {
	t.Helper()
	var v T
	n := 0
	fill(t, reflect.ValueOf(&v).Elem(), &n)
	return v
}

func fill(t testing.TB, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch p := v.Addr().Interface().(type) {
	case *time.Time:
		*p = epoch.Add(time.Duration(*n) * time.Second)
		return
	case *json.RawMessage:
		*p = json.RawMessage(fmt.Sprintf(`{ "n":  %d, "u": "é<" }`, *n)) // not in canonical form: it must come back as it is
		return
	case *[]byte:
		*p = []byte{byte(*n), 0, 0xff, '\n'}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d é\"'\\%%", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0), n)
		fill(t, v.Index(1), n)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, n)
		fill(t, value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("a field of type %s cannot be filled", v.Type())
	}
}
