package playbook

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"

	"rekey/playbooks"
)

// CostLimit is the most that one condition may cost (contracts section 2), in the
// units of CEL's cost model, about one per operation.
const CostLimit = 10_000

// longestFact bounds texts in the estimate of a condition's cost.
const longestFact = 512

// newEnv is the world of a condition: the facts and CEL's standard functions,
// nothing else. Each fact is a variable with a dotted name, so the type checker
// knows all of them and a fact can be unknown by itself.
func newEnv() (*cel.Env, error) {
	opts := []cel.EnvOption{
		cel.ParserExpressionSizeLimit(4096),
		cel.ParserRecursionLimit(32),
		cel.DefaultUTCTimeZone(true),
	}
	for _, f := range playbooks.FactTable() {
		opts = append(opts, cel.VariableWithDoc(f.Name, celType(f.Type), f.Doc))
	}
	env, err := cel.NewEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("the table of facts is not usable: %w", err)
	}
	return env, nil
}

func celType(t playbooks.FactType) *cel.Type {
	switch t {
	case playbooks.TypeInt:
		return cel.IntType
	case playbooks.TypeBool:
		return cel.BoolType
	}
	return cel.StringType
}

// A fault is one thing wrong with a condition, offset characters into its text.
type fault struct {
	offset   int
	code     Code
	msg, fix string
}

// A readAt is a fact that a condition names, offset characters into its text.
type readAt struct {
	name   string
	offset int
}

// compile checks a condition. reads are the facts it names, each once, in the order
// of its text. On faults the AST is nil.
func compile(env *cel.Env, when string) (checked *cel.Ast, reads []readAt, faults []fault) {
	parsed, iss := env.Parse(when)
	if iss.Err() != nil {
		return nil, nil, issueFaults(when, codeRuleSyntax, iss)
	}
	reads, faults = factsRead(parsed.NativeRep())
	if len(faults) > 0 {
		return nil, reads, faults
	}
	checked, iss = env.Check(parsed)
	if iss.Err() != nil {
		return nil, reads, issueFaults(when, codeRuleType, iss)
	}
	if checked.OutputType() != cel.BoolType {
		return nil, reads, []fault{{0, codeRuleType, fmt.Sprintf("the condition gives %s, not true or false", checked.OutputType()), "compare it with a value"}}
	}
	est, err := env.EstimateCost(checked, estimator{})
	if err != nil || est.Max > CostLimit {
		return nil, reads, []fault{{0, codeRuleCost, fmt.Sprintf("the condition may cost more than %d", CostLimit), "shorten it"}}
	}
	return checked, reads, nil
}

// issueFaults takes CEL's messages without its drawing of the source.
func issueFaults(when string, code Code, iss *cel.Issues) []fault {
	src := common.NewTextSource(when)
	var out []fault
	for _, e := range iss.Errors() {
		off, ok := src.LocationOffset(e.Location)
		if !ok {
			off = 0
		}
		msg := strings.TrimPrefix(e.Message, "Syntax error: ")
		msg, _, _ = strings.Cut(msg, " (in container '')")
		out = append(out, fault{int(off), code, strings.TrimSpace(msg), ""})
	}
	return out
}

// factsRead lists the facts of a condition and what it names that is no fact.
func factsRead(tree *ast.AST) (reads []readAt, faults []fault) {
	at := func(id int64) int {
		r, _ := tree.SourceInfo().GetOffsetRange(id)
		return int(r.Start)
	}
	local := map[string]bool{}
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.ComprehensionKind {
			c := e.AsComprehension()
			local[c.IterVar()], local[c.IterVar2()], local[c.AccuVar()] = true, true, true
		}
	}))
	for _, v := range playbooks.FactVariables() {
		if local[v] {
			faults = append(faults, fault{0, codeRuleType, fmt.Sprintf("%q is the name of the facts and cannot be a loop variable", v), "use x"})
		}
	}

	var names []string
	for _, f := range playbooks.FactTable() {
		names = append(names, f.Name)
	}
	inside := map[int64]bool{} // parts of a name that was read whole
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if inside[e.ID()] || (e.Kind() != ast.SelectKind && e.Kind() != ast.IdentKind) {
			return
		}
		var parts []string
		root, presence := e, false
		for root.Kind() == ast.SelectKind {
			s := root.AsSelect()
			presence = presence || s.IsTestOnly()
			parts = append(parts, s.FieldName())
			root = s.Operand()
			inside[root.ID()] = true
		}
		if root.Kind() != ast.IdentKind || local[root.AsIdent()] {
			return
		}
		parts = append(parts, root.AsIdent())
		slices.Reverse(parts)
		name := strings.TrimPrefix(strings.Join(parts, "."), ".")
		switch {
		case !slices.Contains(names, name):
			faults = append(faults, fault{at(root.ID()), codeUnknownFact, fmt.Sprintf("unknown fact %q", name), suggestFact(name, names)})
		case presence:
			faults = append(faults, fault{at(root.ID()), codeRuleType, "has() is not needed", "a condition that reads an unknown fact is false by itself"})
		default:
			reads = append(reads, readAt{name, at(root.ID())})
		}
	}))
	slices.SortStableFunc(reads, func(a, b readAt) int { return a.offset - b.offset })
	seen := map[string]bool{}
	reads = slices.DeleteFunc(reads, func(r readAt) bool {
		again := seen[r.name]
		seen[r.name] = true
		return again
	})
	return reads, faults
}

func suggestFact(name string, names []string) string {
	if n := nearest(name, names); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	return "docs/playbook-facts.md lists the facts"
}

// neverEqual warns of a comparison with a value that the fact never has: a rule with
// a slip of the pen in it would be false for ever, and nobody would be told.
func neverEqual(tree *ast.AST) []fault {
	var faults []fault
	look := func(fact, literal ast.Expr) {
		if literal.Kind() != ast.LiteralKind || fact.Kind() != ast.SelectKind || fact.AsSelect().Operand().Kind() != ast.IdentKind {
			return
		}
		name := fact.AsSelect().Operand().AsIdent() + "." + fact.AsSelect().FieldName()
		value, ok := literal.AsLiteral().Value().(string)
		i := slices.IndexFunc(playbooks.FactTable(), func(f playbooks.FactInfo) bool { return f.Name == name })
		if !ok || i < 0 {
			return
		}
		if values := playbooks.FactTable()[i].Values; len(values) > 0 && !slices.Contains(values, value) {
			r, _ := tree.SourceInfo().GetOffsetRange(literal.ID())
			faults = append(faults, fault{int(r.Start), codeNeverEqual, fmt.Sprintf("%s is never %q", name, value), suggest(value, values)})
		}
	}
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind || len(e.AsCall().Args()) != 2 {
			return
		}
		a, b := e.AsCall().Args()[0], e.AsCall().Args()[1]
		switch e.AsCall().FunctionName() {
		case operators.Equals, operators.NotEquals:
			look(a, b)
			look(b, a)
		case operators.In:
			if b.Kind() == ast.ListKind {
				for _, v := range b.AsList().Elements() {
					look(a, v)
				}
			}
		}
	}))
	return faults
}

// estimator tells CEL's cost model how long a fact can be.
type estimator struct{}

func (estimator) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

func (estimator) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if len(n.Path()) == 0 {
		return nil
	}
	return &cost.SizeEstimate{Min: 0, Max: longestFact}
}
