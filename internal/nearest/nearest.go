// Package nearest finds the word that somebody probably meant, so that an error
// can offer it. It is the one idea of it; a better measure goes here.
package nearest

// Word gives the word of words with the smallest edit distance (Levenshtein) to
// got, or "" when none is near: more than two edits and more than a third of the
// word's length. Of equally near ones it gives the first.
func Word(got string, words []string) string {
	best, least := "", -1
	for _, w := range words {
		d := distance(got, w)
		if d <= max(2, len(w)/3) && d < len(w) && (least < 0 || d < least) {
			best, least = w, d
		}
	}
	return best
}

// maxLen bounds the work: nobody mistypes a longer word, and got comes from outside.
const maxLen = 128

func distance(a, b string) int {
	if len(a) > maxLen || len(b) > maxLen {
		return maxLen
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
