package playbook

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Problem is one mistake in a playbook: where it is, what it is and how it is
// mended. Line and Col count from 1; Col counts characters.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Col  int    `json:"col"`
	Code Code   `json:"code"`
	// Path is where in the document: "decide[2]", "approvals.rung.quorum".
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
	// Fix is what to write instead.
	Fix string `json:"fix,omitempty"`
	// Warning is set when the playbook may be used as it is.
	Warning bool `json:"warning,omitempty"`
}

// String is the line that a person reads (contracts section 2):
//
//	playbook.yaml:31:17: decide[2]: unknown fact "scope.x" (did you mean "scope.y"?)  [RK012]
func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Col)
	if p.Warning {
		b.WriteString("warning: ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Fix != "" {
		b.WriteString(" (" + p.Fix + ")")
	}
	fmt.Fprintf(&b, "  [%s]", p.Code)
	return b.String()
}

// Problems are the mistakes of one file, in its order.
type Problems []Problem

// Failed tells whether the playbook may not be used.
func (ps Problems) Failed() bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return !p.Warning })
}

// Err is nil unless the problems forbid the use of the playbook; its text is all
// of them, a line each.
func (ps Problems) Err() error {
	if !ps.Failed() {
		return nil
	}
	return invalidError{ps}
}

// String is all problems, a line each.
func (ps Problems) String() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

type invalidError struct{ problems Problems }

func (e invalidError) Error() string { return "invalid playbook:\n" + e.problems.String() }

// sorted puts the problems into the order of the file and drops repetitions.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Code, b.Code),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(ps)
}
