package slackapp

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"rekey/activities"
	"rekey/activities/notify/text"
	"rekey/internal/secret"
	"rekey/internal/secret/redact"
)

// A finder finds secrets that somebody typed: by the patterns of every provider and
// the generic ones of the redactor, its measure of disorder among them.
type finder struct {
	r   *redact.Redactor
	ids []*regexp.Regexp
}

func newFinder(r *redact.Redactor, ds []activities.Descriptor) (*finder, error) {
	f := &finder{r: r}
	for _, d := range ds {
		for _, k := range d.Kinds {
			if k.Pattern == "" {
				continue
			}
			re, err := regexp.Compile(`^(?:` + k.Pattern + `)$`)
			if err != nil {
				return nil, err
			}
			f.ids = append(f.ids, re)
		}
	}
	return f, nil
}

func (f *finder) isKeyID(word string) bool {
	return slices.ContainsFunc(f.ids, func(re *regexp.Regexp) bool { return re.MatchString(word) })
}

// aroundID is what people put around a key id.
const aroundID = "`\"',;|:"

var (
	wordsRE = regexp.MustCompile(`\S+`)
	labelRE = regexp.MustCompile(`^["'` + "`" + `]?[A-Za-z_][A-Za-z0-9_.-]*["']?[=:]`)
)

// seen splits a text into what can be shown and the secrets in it. A public key id
// beside a secret stays. values share no memory with the text; destroy them.
func (f *finder) seen(text string) (plain string, values []secret.Value) {
	broken := f.broken(text)
	spans := append(f.r.Spans([]byte(text)), broken...)
	if len(spans) == 0 {
		return text, nil
	}
	// Of two that begin together the longer one: its first piece may look like a secret.
	slices.SortFunc(spans, func(a, b [2]int) int { return cmp.Or(a[0]-b[0], b[1]-a[1]) })
	var out strings.Builder
	pos := 0
	for _, s := range spans {
		from, to := widen(text, s[0], s[1])
		if from < pos {
			from = pos
		}
		if to <= from {
			continue
		}
		out.WriteString(text[pos:from])
		part := text[from:to]
		var secrets []string
		for _, w := range wordsRE.FindAllString(part, -1) {
			if id := strings.Trim(w, aroundID); f.isKeyID(id) {
				out.WriteString(" " + id + " ")
				continue
			}
			secrets = append(secrets, w)
		}
		switch {
		case len(secrets) == 0:
		case slices.Contains(broken, [2]int{from, to}):
			for i, w := range secrets {
				secrets[i] = trimmed(w)
			}
			values = append(values, secret.New([]byte(bare(strings.Join(secrets, "")))))
		case len(secrets) == 1:
			values = append(values, secret.New([]byte(bare(secrets[0]))))
		default: // a PEM block, or a secret that was broken into lines
			values = append(values, secret.New([]byte(strings.TrimSpace(part))))
		}
		out.WriteString(" ")
		pos = to
	}
	out.WriteString(text[pos:])
	return strings.TrimSpace(out.String()), values
}

// visible undoes Slack's escapes and leaves out what cannot be seen, so that no
// secret hides behind a character without a shape.
func visible(typed string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !text.Hidden(r) {
			return r
		}
		return -1
	}, unescape.Replace(strings.ToValidUTF8(typed, "\uFFFD")))
}

// widen takes the whole words that a span touches: what stands beside a secret
// without a space may be more of it.
func widen(text string, from, to int) (int, int) {
	isSpace := func(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }
	for from > 0 && !isSpace(text[from-1]) {
		from--
	}
	for to < len(text) && !isSpace(text[to]) {
		to++
	}
	return from, to
}

// bare takes name= and quotes off a secret.
func bare(word string) string {
	if m := labelRE.FindString(word); m != "" && strings.Trim(word[len(m):], "=") != "" { // base64 may end in ==
		word = word[len(m):]
	}
	return strings.Trim(word, "`\"',;")
}
