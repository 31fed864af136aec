package slackapp

import (
	"regexp"
	"slices"
	"strings"
)

// Terminals, mail programs and people break a secret into pieces, of which none looks
// like one. A secret that was spelled out letter by letter cannot be told from text.
const (
	// half is the least length of either of two pieces, which may be any words, and of
	// a piece that makes longer what is a secret without it.
	half = 8
	// pieces is how many are put together, longest how many bytes.
	pieces  = 14
	longest = 512
)

// broken finds secrets that line breaks or spaces have cut into pieces. Spans are whole
// words.
func (f *finder) broken(text string) (out [][2]int) {
	words := wordsRE.FindAllStringIndex(text, -1)
	ids := f.idsOf(text, words)
	word := func(i int) string { return trimmed(text[words[i][0]:words[i][1]]) }
	for i := 0; i < len(words)-1; i++ {
		first := word(i)
		if f.isKeyID(first) || len(f.r.Spans([]byte(first))) > 0 {
			continue
		}
		joined, odd, last := first, oddness(first), i
		for n := i + 1; n < len(words) && n-i < pieces; n++ {
			next := word(n)
			if f.isKeyID(next) || len(joined)+len(next) > longest || len(f.r.Spans([]byte(next))) > 0 {
				break
			}
			if last > i && (len(next) < half || oddness(next) == 0) {
				break // a word that follows the secret
			}
			joined, odd = joined+next, odd+oddness(next)
			// Of a secret that is told by its whole alone, most pieces are no words.
			two := n == i+1 && len(first) >= half && len(next) >= half
			if (two || 3*odd >= 2*len(joined)) && f.isSecret(joined, ids, len(first)) {
				last = n
			} else if last > i {
				break
			}
		}
		if last > i {
			out = append(out, [2]int{words[i][0], words[last][1]})
			i = last
		}
	}
	return out
}

// idsOf gives one key id of each form in the text.
func (f *finder) idsOf(text string, words [][]int) (ids []string) {
	for _, re := range f.ids {
		for _, w := range words {
			if id := strings.Trim(text[w[0]:w[1]], aroundID); re.MatchString(id) {
				ids = append(ids, id+" ")
				break
			}
		}
	}
	return ids
}

// isSecret tells whether a word by itself, or beside one of the key ids of its text, is
// taken out whole: some secrets are told from other text by the id alone. A name= before
// the secret may stay, if it ends within the first label bytes.
func (f *finder) isSecret(word string, ids []string, label int) bool {
	for _, before := range append([]string{""}, ids...) {
		from, to := len(before), len(before)+len(word)
		if slices.ContainsFunc(f.r.Spans([]byte(before+word)), func(s [2]int) bool {
			return s[1] == to && (s[0] == from || s[0] > from && s[0] < from+label && labelRE.FindString(word) == word[:s[0]-from])
		}) {
			return true
		}
	}
	return false
}

// oddness counts the characters of what is no word, name, abbreviation or number.
func oddness(s string) int {
	if plainWord.MatchString(s) {
		return 0
	}
	return len(s)
}

var plainWord = regexp.MustCompile(`^(?:[A-Za-z]?[a-z'’-]+|[A-Z]{1,6}s?|[0-9]+)[.,:;!?]*$`)

// trimmed takes quotes and the end of a sentence off a word.
func trimmed(word string) string {
	return strings.TrimRight(strings.TrimLeft(word, "`\"'"), "`\"',;.")
}
