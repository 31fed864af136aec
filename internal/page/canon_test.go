package page_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/canon"
	"rekey/internal/page"
)

// texts are what can go wrong in a string: what encoding/json escapes and RFC 8785 does
// not, what both do, what sorts in another way by bytes than by UTF-16.
var texts = []string{
	"", "plain", "fp1_00aa", `quote " back \ slash /`, "<b>&amp;</b>", "tab\tline\nfeed\r\b\f", "nul\x00 esc\x1b del\x7f", "sep\u2028par\u2029nel\u0085",
	"Zürich ß", "東京", "emoji 😀", "\U00010000", "\uffff", "\ufeffbom", "e\u0301", "\u202eoverride", `\u2028`, "\ufffd", "אב", "a/b/c",
}

// anyRow fills every field of a row, whatever it is, also those that are added later.
func anyRow(rng *rand.Rand) page.Row {
	var r page.Row
	fill(rng, reflect.ValueOf(&r).Elem())
	r.FP += randText(rng) + string(rune('a'+rng.IntN(26)))
	return r
}

func randText(rng *rand.Rand) string {
	var b strings.Builder
	for range rng.IntN(3) {
		b.WriteString(texts[rng.IntN(len(texts))])
	}
	return b.String()
}

const mostInt = 1<<53 - 1 // contracts section 0

func fill(rng *rand.Rand, v reflect.Value) {
	if rng.IntN(3) == 0 {
		return // left out
	}
	switch v.Interface().(type) {
	case page.At:
		v.Set(reflect.ValueOf(page.At{Time: time.UnixMilli(rng.Int64N(4e12)).UTC()}))
		return
	case json.RawMessage:
		res := activities.InspectResult{Principal: randText(rng), Owner: randText(rng), Created: time.Unix(rng.Int64N(4e9), rng.Int64N(1e9)).UTC(), Roles: []string{randText(rng)}}
		b, err := canon.JSON(res)
		if err != nil {
			panic(err)
		}
		v.SetBytes(b)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(randText(rng))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt([]int64{0, 1, -1, rng.Int64N(100), rng.Int64N(mostInt), mostInt, -mostInt}[rng.IntN(7)])
	case reflect.Slice:
		n := rng.IntN(3)
		if n == 0 {
			return // an empty one is left out, and comes back as nil
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rng, v.Index(i))
		}
	case reflect.Map:
		n := rng.IntN(4)
		if n == 0 {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for range n {
			e := reflect.New(v.Type().Elem()).Elem()
			fill(rng, e)
			v.SetMapIndex(reflect.ValueOf(randText(rng)), e)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(rng, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			fill(rng, v.Field(i))
		}
	default:
		panic("a page holds a " + v.Kind().String() + ": say here how to make one")
	}
}

func TestEncodeIsCanonical(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		rows := make([]page.Row, rng.IntN(4))
		for i := range rows {
			rows[i] = anyRow(rng)
		}
		checkCanonical(t, rows)
	}
	for _, text := range texts { // each alone: the quick way is taken where it can be
		checkCanonical(t, []page.Row{{FP: "fp1_1", Owner: text, Calls: map[string]int{text: 1, "done": 2, "\uffee": 3}}})
	}
	checkCanonical(t, nil)
}

func checkCanonical(t *testing.T, rows []page.Row) {
	t.Helper()
	sorted := append([]page.Row{}, rows...)
	slices.SortFunc(sorted, func(a, b page.Row) int { return strings.Compare(a.FP, b.FP) })
	want, err := canon.JSON(page.Page{Rows: sorted, Schema: page.Schema})
	require.NoError(t, err)
	got, err := page.Encode(rows)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	require.NotContains(t, string(got), "null")
	back, err := page.Decode(got)
	require.NoError(t, err)
	require.Equal(t, sorted, back)
}

// A field in the wrong place would not fail in small pages without it: the order of JSON
// names is what makes the quick way right.
func TestFieldsStandInTheOrderOfTheirNames(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		if seen[typ] {
			return
		}
		seen[typ] = true
		if typ.Implements(reflect.TypeFor[json.Marshaler]()) {
			return // it writes itself
		}
		switch typ.Kind() {
		case reflect.Slice, reflect.Pointer, reflect.Map:
			walk(typ.Elem())
		case reflect.Struct:
			var names []string
			for i := range typ.NumField() {
				f := typ.Field(i)
				require.Truef(t, f.IsExported() && !f.Anonymous, "%s.%s", typ, f.Name)
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				require.NotEmptyf(t, name, "%s.%s needs a JSON name", typ, f.Name)
				names = append(names, name)
				walk(f.Type)
			}
			require.Truef(t, slices.IsSorted(names), "fields of %s must stand in the order of their JSON names: %v", typ, names)
			require.Lenf(t, slices.Compact(slices.Clone(names)), len(names), "%s has a name twice", typ)
		case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		default:
			t.Errorf("a page holds a %s: canonical JSON of it is not what encoding/json writes", typ)
		}
	}
	walk(reflect.TypeFor[page.Page]())
	require.True(t, seen[reflect.TypeFor[page.Dependent]()], "the walk goes all the way")
}

func TestDecodeRefusesWhatItWouldLose(t *testing.T) {
	good, err := page.Encode([]page.Row{{FP: "fp1_1", Provider: "awsiam", Account: "prod", Kind: "key"}})
	require.NoError(t, err)
	for name, bad := range map[string]string{
		"another schema":         strings.Replace(string(good), page.Schema, "rekey.page/v2", 1),
		"a field of a later one": strings.Replace(string(good), `"fp":`, `"fox":1,"fp":`, 1),
		"more after the end":     string(good) + "{}",
		"half a page":            string(good[:len(good)-3]),
		"nothing":                "",
		"a list":                 `{"items":0,"pages":[],"schema":"` + page.ListSchema + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := page.Decode([]byte(bad))
			require.ErrorIs(t, err, page.ErrSchema)
		})
	}
	rows, err := page.Decode(good)
	require.NoError(t, err)
	require.Len(t, rows, 1)
}
