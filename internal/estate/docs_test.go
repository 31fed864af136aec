package estate_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/estate"
)

// TestThePageIsTrue loads the examples of docs/estate.md, and finds every key of a file
// in them and in its table.
func TestThePageIsTrue(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "estate.md"))
	require.NoError(t, err)
	text := string(page)
	blocks := regexp.MustCompile("(?s)```(yaml|jsonl)\n(.*?)```").FindAllStringSubmatch(text, -1)
	require.Len(t, blocks, 2)
	for _, b := range blocks {
		e, err := estate.Load([]string{write(t, "estate."+b[1], b[2])}, nil, fingers(t))
		require.NoError(t, err)
		require.NotEmpty(t, e.Keys())
	}
	_, table, _ := strings.Cut(text, "| list | key | |")
	table, _, _ = strings.Cut(table, "\n\n")
	lists := reflect.TypeFor[estate.File]()
	for i := range lists.NumField() {
		list := lists.Field(i)
		name := yamlName(list)
		require.Contains(t, table, "| `"+name+"` |")
		require.Contains(t, "\n"+blocks[0][2], "\n"+name+":\n", "an example of it")
		for k := range list.Type.Elem().NumField() {
			key := yamlName(list.Type.Elem().Field(k))
			require.Contains(t, table, "`"+key+"`", "%s of %s", key, name)
			require.Regexp(t, `[ {]`+key+":", blocks[0][2], "an example of %s of %s", key, name)
		}
	}
}

func yamlName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}
