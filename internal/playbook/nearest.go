package playbook

import (
	"fmt"
	"strings"
)

// nearest gives the candidate that a person most likely meant, or "". Ties go to
// the first candidate.
func nearest(got string, candidates []string) string {
	best, at := "", max(2, len([]rune(got))/3)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(got), strings.ToLower(c)); d < at {
			best, at = c, d
		}
	}
	return best
}

// suggest is the fix for a word that is not in the list.
func suggest(got string, candidates []string) string {
	if n := nearest(got, candidates); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	return "one of " + strings.Join(candidates, ", ")
}

// distance counts insertions, deletions, replacements and swaps of neighbours
// (optimal string alignment, https://doi.org/10.1145/363958.363994). Words longer
// than 64 characters are as far apart as can be: nobody mistypes those.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	if len(x) > 64 || len(y) > 64 {
		return max(len(x), len(y))
	}
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
