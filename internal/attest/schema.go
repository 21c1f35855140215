package attest

import (
	"bytes"
	"embed"
	"fmt"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sallyport-ci/sallyport"
)

//go:embed schema/*.json
var schemaFiles embed.FS

// schemaOf names the schema of each predicate type that is our own.
var schemaOf = map[string]string{
	sallyport.PredicatePush:       "push.v1.json",
	sallyport.PredicatePlan:       "plan.v1.json",
	sallyport.PredicateDeployment: "deployment.v1.json",
	sallyport.PredicateHealth:     "health.v1.json",
	sallyport.PredicateCache:      "cache.v1.json",
}

// Schema returns the JSON Schema of a predicate type of our own, nil for others.
func Schema(predicateType string) []byte {
	file, ok := schemaOf[predicateType]
	if !ok {
		return nil
	}
	b, err := schemaFiles.ReadFile("schema/" + file)
	if err != nil {
		panic(err) // embedded
	}
	return b
}

// CheckPredicate validates a predicate of one of our own types against its
// schema; any other type passes. CodeInvalid names the first field that is
// wrong.
func CheckPredicate(predicateType string, predicate []byte) error {
	if _, ok := schemaOf[predicateType]; !ok {
		return nil
	}
	schemas, err := compiledSchemas()
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(predicate))
	if err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "the predicate is not JSON: %v", err)
	}
	if err := schemas[predicateType].Validate(doc); err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "the predicate does not fit the schema of %s: %v", predicateType, err)
	}
	return nil
}

// compiledSchemas compiles the embedded table once.
var compiledSchemas = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	out := map[string]*jsonschema.Schema{}
	for predicateType := range schemaOf {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema(predicateType)))
		if err != nil {
			return nil, fmt.Errorf("parse schema of %s: %w", predicateType, err)
		}
		if err := c.AddResource(predicateType, doc); err != nil {
			return nil, fmt.Errorf("add schema of %s: %w", predicateType, err)
		}
		if out[predicateType], err = c.Compile(predicateType); err != nil {
			return nil, fmt.Errorf("compile schema of %s: %w", predicateType, err)
		}
	}
	return out, nil
})
