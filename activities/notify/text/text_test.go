package text_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"rekey/activities/notify/text"
)

func TestLine(t *testing.T) {
	tests := map[string]struct {
		in   string
		n    int
		want string
	}{
		"plain":                     {"key of billing", 50, "key of billing"},
		"line breaks become spaces": {"a\r\nb\n\n\tc\u2028d\u0085e", 50, "a b c d e"},
		"control characters":        {"a\x00b\x1b[31mc\x7f", 50, "ab[31mc"},
		"bidi overrides":            {"a\u202egnp.exe\u2066b\u2069\u200f", 50, "agnp.exeb"},
		"zero width and tags":       {"re\u200bk\u2060e\ufeffy\U000e0041\u00ad", 50, "rekey"},
		"invisible letters":         {"a\u3164\u2800b", 50, "ab"},
		"painting over lines":       {"a" + strings.Repeat("\u0301", 40) + "b", 50, "a\u0301\u0301\u0301b"},
		"other scripts stay":        {"鍵 ключ مفتاح 🔑", 50, "鍵 ключ مفتاح 🔑"},
		"invalid UTF-8":             {"a\xffb", 50, "a\ufffdb"},
		"cut":                       {"abcdefgh", 5, "abcd…"},
		"exactly":                   {"abcde", 5, "abcde"},
		"cut counts UTF-16":         {"🔑🔑🔑", 5, "🔑🔑…"},
		"nothing":                   {"\u200b \n", 5, ""},
		"no room":                   {"abc", 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.want, text.Line(tt.in, tt.n)) })
	}
}

func TestLines(t *testing.T) {
	require.Equal(t, "a\nb c", text.Lines("a\r\n\r\n b \t c\n", 50, 5))
	require.Equal(t, "a\nb …", text.Lines("a\nb\nc\nd", 50, 2))
	require.Equal(t, "a\nbc…", text.Lines("a\nbcdefg", 5, 5))
}

func TestHugeInput(t *testing.T) {
	got := text.Line(strings.Repeat("\u202e<!channel> ", 1<<18), 300)
	require.Equal(t, 300, text.Len(got))
	require.True(t, utf8.ValidString(got))
	require.True(t, strings.HasSuffix(got, text.Mark))
}
