package worker

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatStaysWithWhichBuild(t *testing.T) {
	for name, c := range map[string]struct {
		open []open
		keep map[string]string
		free []string
		lost []string
	}{
		"all is known":                        {open: []open{{id: "incident/a"}, {id: "register/00"}}, keep: map[string]string{}},
		"an incident stays as a whole":        {open: []open{{id: "incident/a"}, {id: "incident/a/wave/1", breaks: true, last: "old"}, {id: "incident/ab"}}, keep: map[string]string{"incident/a": "old", "incident/a/wave/1": "old"}},
		"pinned already":                      {open: []open{{id: "incident/a", breaks: true, last: "old", pinned: "old"}}, keep: map[string]string{}},
		"a child that came later":             {open: []open{{id: "incident/a", breaks: true, last: "old", pinned: "old"}, {id: "incident/a/watch"}}, keep: map[string]string{"incident/a/watch": "old"}},
		"known by now":                        {open: []open{{id: "incident/a", pinned: "old"}, {id: "incident/a/wave/1", pinned: "old"}}, keep: map[string]string{}, free: []string{"incident/a", "incident/a/wave/1"}},
		"half of it known":                    {open: []open{{id: "incident/a", pinned: "old"}, {id: "incident/a/wave/1", breaks: true, last: "old", pinned: "old"}}, keep: map[string]string{}},
		"pinned to us":                        {open: []open{{id: "incident/a", pinned: "new"}}, keep: map[string]string{}},
		"nobody with a name ran it":           {open: []open{{id: "incident/a", breaks: true}}, keep: map[string]string{}, lost: []string{"incident/a"}},
		"we ran it ourselves":                 {open: []open{{id: "incident/a", breaks: true, last: "new"}}, keep: map[string]string{}, lost: []string{"incident/a"}},
		"the pin counts, not who ran it":      {open: []open{{id: "incident/a", breaks: true, last: "older", pinned: "old"}}, keep: map[string]string{}},
		"what is no incident stays by itself": {open: []open{{id: "register/00", breaks: true, last: "old"}, {id: "register/01"}}, keep: map[string]string{"register/00": "old"}},
	} {
		t.Run(name, func(t *testing.T) {
			ids := func(of []open) []string {
				var out []string
				for _, o := range of {
					out = append(out, o.id)
				}
				return out
			}
			keep, free, lost := (&deploy{build: "new"}).sort(c.open)
			require.Equal(t, c.keep, keep)
			require.Equal(t, c.free, ids(free))
			require.Equal(t, c.lost, ids(lost))
		})
	}
}
