package estate_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/estate"
	"rekey/workflows"
)

func day(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.DateOnly, s)
	require.NoError(t, err)
	return v
}

// staleSnapshot is the estate of drill D2 (Imperva 2018, Heartbleed): what a snapshot
// of 2017 held, of which much was replaced since, and certificates were renewed with
// the keys that they had.
func staleSnapshot(t testing.TB, taken, now time.Time) estate.File {
	t.Helper()
	f := estate.File{
		Keys:      []estate.Key{{ID: "AK-OLD", Provider: "awsiam", Account: "prod", Kind: "user-access-key", Issued: day(t, "2017-09-01")}},
		Copies:    []estate.Copy{{Key: "AK-OLD", Where: "host/H-TEST", Registered: true}, {Key: "AK-OLD", Where: "ami/AMI-7"}},
		Snapshots: []estate.Snapshot{{ID: "S-20170915", Of: "db/main", At: taken}},
		Places:    []estate.Place{{Where: "db/main", KnownFrom: now.AddDate(0, 0, -365)}},
	}
	add := func(k estate.Key, from, until time.Time) {
		k.Account, k.Owner = "prod", "web"
		f.Keys = append(f.Keys, k)
		f.Copies = append(f.Copies, estate.Copy{Key: k.ID, Where: "db/main", Registered: true, From: from, Until: until})
	}
	for n := range 140 {
		k := estate.Key{ID: fmt.Sprintf("api-%d", n), Provider: "lab", Kind: "api-key"}
		if n < 84 {
			k.Retired = taken.AddDate(0, 0, 10+n)
		}
		add(k, taken.AddDate(0, 0, -n), time.Time{})
	}
	for n := range 50 { // came the moment after, and left the moment before
		add(estate.Key{ID: fmt.Sprintf("later-%d", n), Provider: "lab", Kind: "api-key"}, taken.Add(time.Millisecond), time.Time{})
		add(estate.Key{ID: fmt.Sprintf("earlier-%d", n), Provider: "lab", Kind: "api-key"}, time.Time{}, taken)
	}
	spki := func(n int) string { return fmt.Sprintf("%064x", n) }
	for n := range 1350 {
		add(estate.Key{ID: fmt.Sprintf("serial-2017-%d", n), Provider: "lab", Kind: "certificate", SPKI: spki(n), Retired: day(t, "2018-06-01")}, taken.AddDate(0, -1, 0), day(t, "2018-06-01"))
		k := estate.Key{ID: fmt.Sprintf("serial-2018-%d", n), Provider: "lab", Account: "prod", Kind: "certificate", SPKI: spki(n)}
		if n >= 900 {
			k.SPKI = spki(10_000 + n)
		}
		f.Keys = append(f.Keys, k)
		f.Placements = append(f.Placements, estate.Placement{SPKI: k.SPKI, Endpoint: fmt.Sprintf("www-%d.example.com:443", n)})
		if n < 37 {
			f.Placements = append(f.Placements, estate.Placement{SPKI: k.SPKI, Endpoint: fmt.Sprintf("api-%d.example.com:443", n)})
			f.Placements = append(f.Placements, estate.Placement{SPKI: k.SPKI, Endpoint: fmt.Sprintf("old-%d.example.com:443", n), Until: day(t, "2018-01-01")})
		}
	}
	return f
}

// of loads an estate that is given as a value.
func of(t testing.TB, f estate.File) *estate.Estate {
	t.Helper()
	b, err := json.Marshal(f)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "estate.json")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	e, err := estate.Load([]string{path}, nil, fingers(t))
	require.NoError(t, err)
	return e
}

func kinds(items []workflows.Scoped) map[string]int {
	out := map[string]int{}
	for _, s := range items {
		out[s.Key.Kind]++
	}
	return out
}

func TestWhatAStaleSnapshotHeldAndLives(t *testing.T) {
	taken, now := day(t, "2017-09-15"), day(t, "2019-08-20")
	f := staleSnapshot(t, taken, now)
	e := of(t, f)
	ask := func(e *estate.Estate, place string) ([]workflows.Scoped, estate.Summary) {
		t.Helper()
		var out []workflows.Scoped
		sum, err := e.Closure([]estate.From{given(t, e, "AK-OLD", place)}, 1, now, func(s workflows.Scoped) bool {
			out = append(out, s)
			return true
		})
		require.NoError(t, err)
		return out, sum
	}
	got, sum := ask(e, "snapshot/S-20170915")
	require.Equal(t, map[string]int{"user-access-key": 1, "api-key": 56, "certificate": 900}, kinds(got))
	require.Equal(t, 937, sum.Placements)
	require.Equal(t, []estate.NamedPlace{{Name: "snapshot/S-20170915", Held: 1490, Live: 956, Retired: 534}}, sum.Named)
	require.Equal(t, []activities.Window{{From: taken, To: now.AddDate(0, 0, -365), Source: "estate db/main"}}, sum.Dark)
	require.Equal(t, 534, sum.Retired)
	require.Contains(t, sum.Unseen[0].Why, "534 keys that this leads to are retired")
	for _, s := range got {
		switch s.Key.Kind {
		case "user-access-key":
			require.Equal(t, []string{"host/H-TEST", "ami/AMI-7"}, s.Copies)
		case "certificate":
			require.True(t, strings.HasPrefix(s.Key.ID, "serial-2018-"), "the certificate that is in use, not the one that was in the snapshot")
			require.Regexp(t, "^spki_[0-9a-f]{64}$", s.Key.FP)
			require.NotEmpty(t, s.Copies)
			require.Contains(t, s.Copies[len(s.Copies)-1], ".example.com:443", "where it is served is where it lies")
			require.NotContains(t, strings.Join(s.Copies, " "), "old-", "and no longer where it was")
		case "api-key":
			require.Equal(t, "in snapshot/S-20170915, db/main as of 2017-09-15T00:00:00Z, where a report saw a copy of "+given(t, e, "AK-OLD").Item.Key.Short(), s.Why)
		}
	}

	same, _ := ask(e, "db/main@2017-09-15")
	require.Equal(t, names(got), names(same), "a place at a time needs no snapshot entry")
	_, ever := ask(e, "db/main")
	require.Equal(t, 1490+100, ever.Named[0].Held, "a place alone means at any time")

	// The negative control of the drill: by serial instead of by public key.
	for i := range f.Keys {
		f.Keys[i].SPKI = ""
	}
	bySerial, _ := ask(of(t, f), "snapshot/S-20170915")
	require.Equal(t, map[string]int{"user-access-key": 1, "api-key": 56}, kinds(bySerial), "900 are missed")

	// A key can say itself what it opens.
	f = staleSnapshot(t, taken, now)
	f.Keys[0].Opens = []string{"snapshot/S-20170915"}
	opened, _ := ask(of(t, f), "host/H-TEST")
	require.Equal(t, names(got), names(opened))
	require.Contains(t, opened[0].Why+opened[1].Why, " opens")
}

func TestTogetherMeansAtTheSameTime(t *testing.T) {
	e := load(t, `
keys:
  - {id: A, provider: lab, account: prod, kind: key}
  - {id: SAME, provider: lab, account: prod, kind: key}
  - {id: BEFORE, provider: lab, account: prod, kind: key}
  - {id: AFTER, provider: lab, account: prod, kind: key}
  - {id: EVER, provider: lab, account: prod, kind: key}
  - {id: LATER, provider: lab, account: prod, kind: key}
copies:
  - {key: A, where: host/1, registered: true, from: 2026-02-01, until: 2026-03-01}
  - {key: BEFORE, where: host/1, registered: true, until: 2026-02-01}
  - {key: SAME, where: host/1, registered: true, from: 2026-02-28, until: 2026-03-05}
  - {key: AFTER, where: host/1, registered: true, from: 2026-03-01}
  - {key: EVER, where: host/1}
  - {key: LATER, where: host/1, registered: true, from: 2026-03-06}
`)
	one, sum := closure(t, e, 1, given(t, e, "A"))
	require.Equal(t, []string{"A", "EVER", "SAME"}, names(one), "one that comes as the other goes was not there with it")
	require.Empty(t, sum.Unseen)
	all, _ := closure(t, e, estate.Unlimited, given(t, e, "A"))
	require.Equal(t, []string{"A", "AFTER", "EVER", "LATER", "SAME"}, names(all), "SAME lay there with AFTER, and AFTER with LATER")

	place, _ := closure(t, e, 1, given(t, e, "Z", "host/1@2026-02-28T12:00:00Z"))
	require.Equal(t, []string{"A", "EVER", "SAME", "Z"}, names(place), "the reported key may be unknown")
	for _, s := range place {
		if s.Key.ID == "EVER" {
			require.Contains(t, s.Why, "(since when is not on record)")
		} else {
			require.NotContains(t, s.Why, "since when")
		}
	}
}

func TestWhatTheEstateCannotTellIsSaid(t *testing.T) {
	e := load(t, `
keys:
  - {id: A, provider: lab, account: prod, kind: key}
  - {id: B, provider: lab, account: prod, kind: key}
copies:
  - {key: A, where: host/1, registered: true}
  - {key: B, where: db/1, from: 2026-02-01}
  - {key: A, where: vault/1, registered: true, from: 2026-01-01, until: 2026-05-01}
places:
  - {where: host/1, known_from: 2026-01-01, known_until: 2026-02-01}
  - {where: host/1, known_from: 2026-03-01}
  - {where: db/1, known_until: 2026-02-15}
  - {where: db/1, known_from: 2026-03-01}
  - {where: vault/1, known_from: 2026-02-01, known_until: 2026-04-01}
snapshots:
  - {id: EMPTY, of: db/1, at: 2026-01-01}
  - {id: DARK, of: db/1, at: 2026-02-20}
  - {id: NOTHING, of: elsewhere, at: 2026-02-20}
`)
	window := func(from, to, place string) activities.Window {
		return activities.Window{From: day(t, from), To: day(t, to), Source: "estate " + place}
	}
	for name, row := range map[string]struct {
		key, place string
		unseen     []string
		dark       []activities.Window
		items      int
	}{
		"a snapshot that nobody told us of":    {"Z", "snapshot/S9", []string{"what snapshot/S9 held is unknown: no `snapshots` entry"}, nil, 1},
		"a place that no copy names":           {"Z", "host/9", []string{"what else is kept at host/9 is unknown"}, nil, 1},
		"that place at a time":                 {"Z", "host/9@2026-01-01", []string{"what else is kept at host/9@2026-01-01 is unknown"}, nil, 1},
		"a snapshot at another time":           {"Z", "snapshot/DARK@2026-01-01", []string{"is as of a time itself"}, nil, 1},
		"a snapshot of which nothing is known": {"Z", "snapshot/NOTHING", []string{"what was in snapshot/NOTHING, elsewhere as of 2026-02-20T00:00:00Z is unknown"}, nil, 1},
		"a time at which it was empty":         {"Z", "snapshot/EMPTY", []string{"is unknown: the estate names nothing that was there then"}, nil, 1},
		"a time in a gap":                      {"Z", "snapshot/DARK", nil, []activities.Window{window("2026-02-15", "2026-03-01", "db/1")}, 2},
		"a gap in a place":                     {"A", "", []string{"what was kept at host/1 before 2026-01-01T00:00:00Z is not on record"}, []activities.Window{window("2026-01-01", "2026-02-01", "vault/1"), window("2026-02-01", "2026-03-01", "host/1"), window("2026-04-01", "2026-05-01", "vault/1")}, 1},
		"nothing that is not known":            {"B", "", nil, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var places []string
			if row.place != "" {
				places = append(places, row.place)
			}
			got, sum := closure(t, e, estate.Unlimited, given(t, e, row.key, places...))
			require.Len(t, got, row.items)
			require.Len(t, sum.Unseen, len(row.unseen))
			for i, u := range sum.Unseen {
				require.Equal(t, "estate", u.Source)
				require.Contains(t, u.Why, row.unseen[i])
			}
			require.Equal(t, row.dark, sum.Dark)
		})
	}
}

func TestWhatIsSaidIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("keys:\n  - {id: A, provider: lab, account: prod, kind: key}\ncopies:\n")
	for n := range 200 {
		fmt.Fprintf(&b, "  - {key: A, where: host/%d, registered: true, from: 2026-01-01}\n", n)
	}
	b.WriteString("places:\n")
	for n := range 200 {
		fmt.Fprintf(&b, "  - {where: host/%d, known_from: 2026-02-01}\n", n)
	}
	e := load(t, b.String())
	_, sum := closure(t, e, estate.Unlimited, given(t, e, "A"))
	require.Len(t, sum.Dark, 50)
	require.Equal(t, "150 more times in which what places held is not on record", sum.Unseen[len(sum.Unseen)-1].Why)

	e = load(t, strings.ReplaceAll(b.String(), ", from: 2026-01-01", ""))
	_, sum = closure(t, e, estate.Unlimited, given(t, e, "A"))
	require.Len(t, sum.Unseen, 50)
	require.Equal(t, "151 more things that the estate cannot tell", sum.Unseen[49].Why)
}

func TestACopyThatIsGoneIsNoCopy(t *testing.T) {
	e := load(t, `
keys:
  - {id: A, provider: lab, account: prod, kind: key, issued: 2020-01-01, retired: 2026-07-01}
copies:
  - {key: A, where: host/1, store: s, zone: dirty, until: 2026-05-01}
  - {key: A, where: host/2, from: 2026-01-01}
  - {key: A, where: host/2}
  - {key: A, where: host/3, from: 2027-01-01}
`)
	s := workflows.Scoped{Key: activities.Key{ID: "A"}}
	e.Describe(&s, now)
	require.Equal(t, []string{"host/2"}, s.Copies)
	require.Nil(t, s.StoreDirty)
	s = workflows.Scoped{Key: activities.Key{ID: "A"}}
	e.Describe(&s, day(t, "2026-04-30"))
	require.Equal(t, []string{"host/1", "host/2"}, s.Copies)
	require.True(t, *s.StoreDirty)
	require.Equal(t, 1, e.Live("lab", "prod", now))
	require.Zero(t, e.Live("lab", "prod", day(t, "2026-07-01")), "retired by then")
	k, _ := e.Key("A")
	require.Equal(t, day(t, "2020-01-01"), k.Issued)
	require.Equal(t, day(t, "2026-07-01"), k.Retired)
}
