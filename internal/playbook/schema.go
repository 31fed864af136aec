package playbook

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/invopop/jsonschema"

	"rekey/playbooks"
)

// SchemaID is the identifier of the schema of this format.
const SchemaID = "https://rekey.dev/schema/playbook/v1.json"

// Schema is the JSON Schema (2020-12) of a playbook file, for editors. It knows the
// keys, types and words; what needs a look at several of them is the validator's.
func Schema() ([]byte, error) {
	r := jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		DoNotReference:             true,
		Mapper:                     schemaOf,
	}
	s := r.Reflect(&playbooks.Playbook{})
	s.ID = SchemaID
	s.Title = "rekey playbook"
	s.Description = "How a class of incident is handled. rekey playbook validate checks more than this schema can."
	constant(s, "apiVersion", playbooks.APIVersion)
	constant(s, "kind", playbooks.Kind)
	names(s, "strategies", texts(playbooks.StrategyNames()))
	names(s, "approvals", playbooks.ApprovalNames())
	for _, key := range []string{"severity", "decide"} {
		alwaysTrue(s, key)
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("playbook schema: %w", err)
	}
	return append(b, '\n'), nil
}

// schemaOf gives the schema of the types that the format writes as text.
func schemaOf(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[playbooks.Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+d)?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))*$`, MinLength: ptr(uint64(2)), Examples: []any{"30s", "15m", "72h", "90d"}}
	case reflect.TypeFor[playbooks.Rate]():
		return &jsonschema.Schema{Type: "string", Pattern: `^[1-9][0-9]*/[smh]$`, Examples: []any{"10/s"}}
	case reflect.TypeFor[playbooks.StrategyName]():
		return enum(playbooks.StrategyNames())
	case reflect.TypeFor[playbooks.Step]():
		return enum(playbooks.Steps())
	case reflect.TypeFor[playbooks.Rung]():
		return enum(playbooks.Rungs())
	case reflect.TypeFor[playbooks.Role]():
		return enum(playbooks.Roles())
	case reflect.TypeFor[playbooks.Level]():
		return enum(playbooks.Levels())
	case reflect.TypeFor[playbooks.Start]():
		return enum(playbooks.Starts())
	case reflect.TypeFor[playbooks.Source]():
		return enum(playbooks.Sources())
	}
	return nil
}

func ptr[T any](v T) *T { return &v }

func enum[T ~string](values []T) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}

func constant(s *jsonschema.Schema, key, value string) {
	if p, ok := s.Properties.Get(key); ok {
		p.Const = value
	}
}

// names bounds the keys of a mapping.
func names(s *jsonschema.Schema, key string, allowed []string) {
	if p, ok := s.Properties.Get(key); ok {
		p.PropertyNames = enum(allowed)
	}
}

// alwaysTrue lets the `when` of a list's entries be written without quotes.
func alwaysTrue(s *jsonschema.Schema, key string) {
	list, ok := s.Properties.Get(key)
	if !ok {
		return
	}
	if when, ok := list.Items.Properties.Get("when"); ok {
		when.Type = ""
		when.AnyOf = []*jsonschema.Schema{{Type: "string"}, {Const: true}}
	}
}
