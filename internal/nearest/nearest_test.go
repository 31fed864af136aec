package nearest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/nearest"
)

func TestWord(t *testing.T) {
	words := []string{"listen", "people", "providers", "s3"}
	for got, want := range map[string]string{
		"lisen":                   "listen",
		"peple":                   "people",
		"provider":                "providers",
		"xyz":                     "",
		"":                        "",
		"s4":                      "s3",
		strings.Repeat("x", 5000): "",
	} {
		require.Equal(t, want, nearest.Word(got, words), "for %.20q", got)
	}
}
