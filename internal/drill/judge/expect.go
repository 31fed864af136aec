package judge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"rekey/internal/cli"
)

// costLimit bounds an expectation: some thousands of looks at each of ten thousand
// uses. It ends what would not end, nothing else.
const costLimit = 1_000_000_000

// expectation is a judged expectation. broken: it could not be evaluated.
type expectation struct {
	cli.Expectation
	broken bool
}

// expect evaluates the drill's expectations: CEL (https://cel.dev) over `final`,
// `events` and `lab`, which have the keys of their JSON. Integers are ints, times
// are texts; timestamp() makes a time of one. A key that is absent is found by
// has(x.y), and x.?y.orValue(z) gives something else in its place; the attrs and
// facts of an event are always there. An expectation that cannot be evaluated did
// not hold.
func (b *bench) expect() []expectation {
	world, err := b.facts()
	var env *cel.Env
	if err == nil {
		env, err = cel.NewEnv(cel.Variable("final", cel.DynType), cel.Variable("events", cel.DynType), cel.Variable("lab", cel.DynType),
			cel.OptionalTypes(), cel.DefaultUTCTimeZone(true))
	}
	out := make([]expectation, 0, len(b.in.Drill.Expect))
	for _, e := range b.in.Drill.Expect {
		one := expectation{Expectation: cli.Expectation{ID: e.ID}}
		held, why := false, err
		if why == nil {
			held, why = evaluate(env, e.Expr, world)
		}
		switch {
		case why != nil:
			one.broken, one.Detail = true, why.Error()
		case held:
			one.Held = true
		default:
			one.Detail = "is false: " + e.Expr
		}
		out = append(out, one)
	}
	return out
}

func evaluate(env *cel.Env, expr string, world map[string]any) (bool, error) {
	ast, iss := env.Compile(expr)
	if iss.Err() != nil {
		return false, fmt.Errorf("does not compile: %w", iss.Err())
	}
	prog, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(costLimit))
	if err != nil {
		return false, fmt.Errorf("does not compile: %w", err)
	}
	val, _, err := prog.Eval(world)
	if err != nil {
		return false, fmt.Errorf("cannot be evaluated: %w", err)
	}
	is, ok := val.(types.Bool)
	if !ok {
		return false, fmt.Errorf("gives a value of type %s, want true or false", val.Type().TypeName())
	}
	return bool(is), nil
}

// facts gives the evidence as JSON shows it.
func (b *bench) facts() (map[string]any, error) {
	out := map[string]any{}
	for name, v := range map[string]any{"final": b.in.Final, "events": b.in.Events, "lab": b.in.Oracle} {
		plain, err := plainJSON(v)
		if err != nil {
			return nil, fmt.Errorf("%s cannot be read: %w", name, err)
		}
		out[name] = plain
	}
	events, ok := out["events"].([]any)
	if !ok {
		return nil, errors.New("events cannot be read")
	}
	for _, e := range events {
		if m, ok := e.(map[string]any); ok {
			for _, key := range []string{"attrs", "facts"} {
				if _, has := m[key]; !has {
					m[key] = map[string]any{}
				}
			}
		}
	}
	return out, nil
}

func plainJSON(v any) (any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var out any
	if err := d.Decode(&out); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return plain(out)
}

// plain turns numbers into integers, and null, which only a list that was never
// filled gives (contracts section 0), into the empty list.
func plain(v any) (any, error) {
	var err error
	switch t := v.(type) {
	case nil:
		return []any{}, nil
	case json.Number:
		return t.Int64()
	case []any:
		for i := range t {
			if t[i], err = plain(t[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range t {
			if t[k], err = plain(t[k]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}
