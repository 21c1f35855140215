package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/sallyport-ci/sallyport/internal/rpc"
)

// newHuma returns the layer that decodes, checks and documents calls. Its own
// pages are off: they would load scripts from elsewhere.
func newHuma(mux *http.ServeMux, version string) huma.API {
	return humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{Title: "Sallyport", Version: version,
				Description: "Times are RFC 3339, durations nanoseconds, binary values base64. Errors are RFC 9457 problems with a code and a hint."},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "A token made by sallyport"},
				},
			},
			Security: []map[string][]string{{"token": {}}},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{ours},
	})
}

// operation describes a call; content is the media type of an answer that is not JSON.
func operation[In, Out any](s *server, c rpc.Call[In, Out], content string) huma.Operation {
	problem := s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[rpc.Problem](), true, "Problem")
	op := huma.Operation{
		OperationID:  c.ID,
		Method:       c.Method,
		Path:         c.Path,
		Summary:      c.Summary,
		MaxBodyBytes: c.MaxBody,

		SkipValidateBody: c.Lenient,
		// Bodies are paced by the server; a deadline set here would end long polls.
		BodyReadTimeout: -1,
		Responses: map[string]*huma.Response{
			"default": {Description: "The call failed", Content: map[string]*huma.MediaType{rpc.ProblemType: {Schema: problem}}},
		},
	}
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = rpc.MaxBody
	}
	if content != "" {
		op.Responses[strconv.Itoa(http.StatusOK)] = &huma.Response{
			Description: "The content", Content: map[string]*huma.MediaType{content: {Schema: binary()}}}
	}
	return op
}

func binary() *huma.Schema { return &huma.Schema{Type: "string", Format: "binary"} }

type body[T any] struct{ Body T }

// answer serves a call that answers JSON.
func answer[In, Out any](s *server, c rpc.Call[In, Out], f func(context.Context, *In) (Out, error)) {
	huma.Register(s.huma, operation(s, c, ""), func(ctx context.Context, in *In) (*body[Out], error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return &body[Out]{out}, nil
	})
}

// list serves a call that answers a list.
func list[In, T any](s *server, c rpc.Call[In, rpc.List[T]], f func(context.Context, *In) ([]T, error)) {
	answer(s, c, func(ctx context.Context, in *In) (rpc.List[T], error) {
		items, err := f(ctx, in)
		if items == nil {
			items = []T{}
		}
		return rpc.List[T]{Items: items}, err
	})
}

// obey serves a call that answers nothing.
func obey[In any](s *server, c rpc.Call[In, rpc.None], f func(context.Context, *In) error) {
	huma.Register(s.huma, operation(s, c, ""), func(ctx context.Context, in *In) (*struct{}, error) {
		if err := f(ctx, in); err != nil {
			return nil, s.problem(ctx, err)
		}
		return nil, nil
	})
}

// content is an answer of bytes.
type content struct {
	Type string `header:"Content-Type"`
	Body []byte
}

// document serves the description of all calls registered until now.
func (s *server) document() error {
	doc := s.huma.OpenAPI()
	for _, name := range []string{"ErrorModel", "ErrorDetail"} { // replaced by Problem
		delete(doc.Components.Schemas.Map(), name)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("describe the API: %w", err)
	}
	s.mux.HandleFunc("GET "+rpc.Prefix+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(b)
	})
	return nil
}
