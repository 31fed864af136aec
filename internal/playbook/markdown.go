package playbook

import (
	"fmt"
	"strings"

	"rekey/playbooks"
)

const generated = "<!-- Written by go generate ./internal/playbook. Do not edit. -->\n\n"

// ProblemsPage is docs/playbook-problems.md.
func ProblemsPage() string {
	var b strings.Builder
	b.WriteString(generated)
	b.WriteString("# What `rekey playbook validate` finds\n\n")
	b.WriteString("Each line names file, line, column, place and what to write instead:\n\n")
	b.WriteString("    playbook.yaml:31:17: decide[2]: unknown fact \"scope.attackr_reads_store\" (did you mean \"scope.attacker_reads_store\"?)  [RK012]\n\n")
	b.WriteString("A line with `warning:` does not forbid the use of the playbook. A code never gets another meaning.\n\n")
	b.WriteString("| code | what is wrong | how to mend it |\n|---|---|---|\n")
	for _, c := range CodeTable() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Code, cell(c.Meaning), cell(c.Mend))
	}
	return b.String()
}

// FactsPage is docs/playbook-facts.md.
func FactsPage() string {
	var b strings.Builder
	b.WriteString(generated)
	b.WriteString("# What a rule of a playbook may read\n\n")
	b.WriteString("Conditions (`when`) are [CEL](https://cel.dev) over the facts below and nothing else: no clock, no environment, no network.\n")
	fmt.Fprintf(&b, "A condition may cost at most %d of CEL's units.\n\n", CostLimit)
	b.WriteString("**Unknown facts.** What could not be read is unknown, not false and not zero. A condition whose truth depends on an unknown fact is false:\n\n")
	b.WriteString("| condition | with `scope.malicious_use_24h` unknown |\n|---|---|\n")
	b.WriteString("| `scope.malicious_use_24h > 0` | false |\n")
	b.WriteString("| `!(scope.malicious_use_24h > 0)` | false as well: nothing becomes true because it could not be read |\n")
	b.WriteString("| `item.admin \\|\\| scope.malicious_use_24h > 0` | true when `item.admin` is known to be true, otherwise false |\n")
	b.WriteString("| `item.admin && scope.malicious_use_24h > 0` | false |\n\n")
	b.WriteString("The plan shows the rule that decided, the facts it names with their values, and every rule before it that was passed over because something is unknown.\n\n")
	b.WriteString("`match.when` is asked before there is a scope and reads only `report`; `contain_on_report.when` reads `report` and `item`.\n\n")
	for _, v := range []string{"report", "item", "scope"} {
		fmt.Fprintf(&b, "## %s\n\n| fact | type | meaning |\n|---|---|---|\n", v)
		for _, f := range playbooks.FactTable() {
			if !strings.HasPrefix(f.Name, v+".") {
				continue
			}
			doc := f.Doc
			if len(f.Values) > 0 {
				doc += " One of `" + strings.Join(f.Values, "`, `") + "`."
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, f.Type, cell(doc))
		}
		b.WriteByte('\n')
	}
	b.WriteString("# Words of a playbook\n\n")
	words := func(name string, list []string) { fmt.Fprintf(&b, "- %s: `%s`\n", name, strings.Join(list, "`, `")) }
	words("strategies", texts(playbooks.StrategyNames()))
	words("steps", texts(playbooks.Steps()))
	words("rungs", texts(playbooks.Rungs()))
	words("roles", texts(playbooks.Roles()))
	words("approvals", playbooks.ApprovalNames())
	words("placeholders in names of stores, in double braces", playbooks.Placeholders())
	b.WriteString("\nA strategy that the file does not list has these steps:\n\n")
	for _, n := range playbooks.StrategyNames() {
		if s := n.StandardSteps(); len(s) > 0 {
			fmt.Fprintf(&b, "- %s: %s\n", n, strings.Join(texts(s), ", "))
		}
	}
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
