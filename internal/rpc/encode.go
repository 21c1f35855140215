package rpc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
)

// request is the arguments of a call in the form that they travel in.
type request struct {
	method        string
	path, rawPath string // decoded and escaped
	query         url.Values
	header        http.Header
	body          []byte
	contentType   string
}

// encode puts the fields of in where their tags say: path, query, header, or,
// by their names, Body (JSON) and RawBody.
func encode(method, path string, in any) (*request, error) {
	r := &request{method: method, path: path, rawPath: path, query: url.Values{}, header: http.Header{}}
	if err := r.fields(reflect.ValueOf(in)); err != nil {
		return nil, err
	}
	if strings.Contains(r.rawPath, "{") {
		return nil, fmt.Errorf("path %s is not complete", r.rawPath)
	}
	return r, nil
}

func (r *request) fields(v reflect.Value) error {
	for i := range v.NumField() {
		f, field := v.Field(i), v.Type().Field(i)
		tag := field.Tag
		switch {
		case field.Anonymous:
			if err := r.fields(f); err != nil {
				return err
			}
		case tag.Get("path") != "":
			text := fmt.Sprint(f.Interface())
			if text == "" || text == "." || text == ".." {
				return fmt.Errorf("%q is not a %s", text, tag.Get("path"))
			}
			hole := "{" + tag.Get("path") + "}"
			r.path = strings.Replace(r.path, hole, text, 1)
			r.rawPath = strings.Replace(r.rawPath, hole, url.PathEscape(text), 1)
		case tag.Get("query") != "":
			if !f.IsZero() {
				r.query.Set(tag.Get("query"), fmt.Sprint(f.Interface()))
			}
		case tag.Get("header") != "":
			r.header.Set(tag.Get("header"), fmt.Sprint(f.Interface()))
		case field.Name == "RawBody":
			r.body, r.contentType = f.Bytes(), tag.Get("contentType")
			if r.body == nil {
				r.body = []byte{}
			}
		case field.Name == "Body":
			b, err := json.Marshal(f.Interface())
			if err != nil {
				return err
			}
			r.body, r.contentType = b, "application/json"
		default:
			return fmt.Errorf("field %s says not where it travels", field.Name)
		}
	}
	return nil
}
