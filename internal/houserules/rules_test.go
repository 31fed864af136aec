package houserules

import (
	"fmt"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// maxLines is the longest a file may be that a person wrote.
const maxLines = 550

var (
	// Written apart, so that this file passes.
	leftover = regexp.MustCompile(`\b(` + "TO" + "DO|FIX" + "ME|X" + "XX" + `)\b`)

	// awsKeyID is the form of an access key id: a prefix and 16 letters of RFC 4648 base32
	// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-prefixes).
	awsKeyID = regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z2-7]{16}\b`)
	// awsExample is how AWS ends the ids in its documentation; with a digit for the last letter where a test needs two.
	awsExample = regexp.MustCompile(`EXAMPL[E2-7]$`)

	// keys are forms of secrets that scanners on GitHub know; each would raise an alarm, or revoke a real key.
	keys = map[string]*regexp.Regexp{
		"private key":    regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----\s+[A-Za-z0-9+/=:, -]{20,}`),
		"GitHub token":   regexp.MustCompile(`\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})`),
		"Slack token":    regexp.MustCompile(`\bxox[abeoprs]-[0-9]{8,}-[A-Za-z0-9-]{10,}`),
		"age identity":   regexp.MustCompile(`AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}`),
		"signing key":    regexp.MustCompile(`PRIVATE\+KEY\+[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{40,}`),
		"Slack web hook": regexp.MustCompile(`hooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{20,}`),
	}

	noteName = regexp.MustCompile(`^([0-9]{4})-[a-z0-9]+(?:-[a-z0-9]+)*\.md$`)

	link = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// leftovers gives the lines that put something off.
func leftovers(text string) []string {
	return lines(text, func(line string) bool { return leftover.MatchString(line) })
}

// tooLong says by how much a Go file is too long; generated ones may be.
func tooLong(name, text string) string {
	base := name[strings.LastIndexByte(name, '/')+1:]
	if n := strings.Count(text, "\n"); n > maxLines && !strings.HasPrefix(base, "zz_gen_") {
		return fmt.Sprintf("%d lines, %d at most: one idea a file", n, maxLines)
	}
	return ""
}

// keyLiterals gives what looks like a live secret or key id.
func keyLiterals(text string) []string {
	var out []string
	for _, id := range awsKeyID.FindAllString(text, -1) {
		if !awsExample.MatchString(id) {
			out = append(out, "AWS access key id "+id[:8]+"…")
		}
	}
	for what, re := range keys {
		if re.MatchString(text) {
			out = append(out, what)
		}
	}
	slices.Sort(out)
	return out
}

// noteFaults checks the names and headings (by name) of the design notes: numbered
// from 0001 without a gap, each number once, the heading beginning with it.
func noteFaults(headings map[string]string) []string {
	var out []string
	names := make([]string, 0, len(headings))
	for name := range headings {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		m := noteName.FindStringSubmatch(name)
		switch {
		case m == nil:
			out = append(out, name+": the name is not NNNN-title.md")
		case m[1] != fmt.Sprintf("%04d", i+1):
			out = append(out, fmt.Sprintf("%s: number %04d expected", name, i+1))
		case !strings.HasPrefix(headings[name], "# "+m[1]+" "):
			out = append(out, name+": the first line is not \"# "+m[1]+" Title\"")
		}
	}
	return out
}

// hasPackageComment tells whether a Go file says what its package is.
func hasPackageComment(name, text string) (bool, error) {
	f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.PackageClauseOnly|parser.ParseComments)
	if err != nil {
		return false, err
	}
	return f.Doc != nil && strings.HasPrefix(f.Doc.Text(), wantComment(f.Name.Name)), nil
}

func wantComment(pkg string) string {
	if pkg == "main" {
		return "Command "
	}
	return "Package " + pkg + " "
}

// localLinks gives the targets of Markdown links that are files of the tree.
func localLinks(text string) []string {
	var out []string
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		target, _, _ := strings.Cut(m[1], "#")
		if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		out = append(out, target)
	}
	return out
}

// codeLines gives the lines of a Markdown text's fenced blocks, without a leading
// "$ " and without a comment behind. A block marked as text shows what is printed.
func codeLines(text string) []string {
	var out []string
	inside, shown := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			inside = !inside
			shown = inside && strings.TrimSpace(strings.TrimLeft(line, "`")) == "text"
			continue
		}
		if !inside || shown {
			continue
		}
		line, _, _ = strings.Cut(strings.TrimPrefix(line, "$ "), " #")
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// A manual answers what commands there are.
type manual struct {
	// page is the text of a command's page, by its words ("rekey audit verify"); "" when there is none.
	page func(command string) string
	// target tells whether the Makefile has it.
	target func(name string) bool
	// exists tells whether a path of the tree does.
	exists func(path string) bool
}

// commandFault says what is wrong with a line that calls rekey, go or make; "" when
// nothing is, or when it calls something else.
func commandFault(line string, m manual) string {
	words := strings.Fields(line)
	switch {
	case len(words) > 1 && words[0] == "make":
		for _, w := range words[1:] {
			if !strings.Contains(w, "=") && !m.target(w) {
				return "make has no target " + w
			}
		}
	case len(words) > 2 && words[0] == "go" && words[1] == "run" && words[2] == "./cmd/rekey":
		return rekeyFault(words[3:], m)
	case len(words) > 2 && words[0] == "go":
		for _, w := range words[2:] {
			if path, ok := strings.CutPrefix(w, "./"); ok && !m.exists(strings.TrimSuffix(strings.TrimSuffix(path, "..."), "/")) {
				return "there is no " + w
			}
		}
	case len(words) > 0 && (words[0] == "rekey" || words[0] == "./rekey" || words[0] == "bin/rekey"):
		return rekeyFault(words[1:], m)
	}
	return ""
}

var (
	commandWord = regexp.MustCompile(`^[a-z][a-z-]*$`)
	flagWord    = regexp.MustCompile(`^\[?(--[a-z][a-z-]*)`)
)

func rekeyFault(words []string, m manual) string {
	command, deepest := "rekey", m.page("rekey")
	for _, w := range words {
		if !commandWord.MatchString(w) {
			break
		}
		page := m.page(command + " " + w)
		if page == "" {
			if command == "rekey" {
				return "there is no command " + command + " " + w
			}
			break
		}
		command, deepest = command+" "+w, page
	}
	for _, w := range words {
		if w == "|" || w == "&&" || w == ";" || strings.HasPrefix(w, ">") {
			break
		}
		f := flagWord.FindStringSubmatch(w)
		if f != nil && !hasFlag(deepest, f[1]) && !hasFlag(m.page("rekey"), f[1]) {
			return command + " has no flag " + f[1]
		}
	}
	return ""
}

func hasFlag(page, flag string) bool {
	return regexp.MustCompile(regexp.QuoteMeta(flag) + `(?:[^a-z-]|$)`).MatchString(page)
}

func lines(text string, bad func(string) bool) []string {
	var out []string
	n := 0
	for line := range strings.Lines(text) {
		n++
		if bad(line) {
			out = append(out, fmt.Sprintf("line %d: %s", n, strings.TrimSpace(line)))
		}
	}
	return out
}

// reachFaults says what of deps is not allowed: packages of rekey outside of only
// (nil: all are), and anything that begins with one of never.
func reachFaults(deps, only, never []string) []string {
	var out []string
	for _, dep := range deps {
		if only != nil && strings.HasPrefix(dep, "rekey/") && !slices.Contains(only, dep) {
			out = append(out, "reaches "+dep)
		}
		if slices.ContainsFunc(never, func(p string) bool { return strings.HasPrefix(dep, p) }) {
			out = append(out, "must not reach "+dep)
		}
	}
	return out
}
