package workflows

import (
	"slices"
	"sort"

	"rekey/activities"
	"rekey/internal/view"
)

// viewOf gives the view of an item, made when it is first asked for.
func (r *incident) viewOf(fp string) *view.Item {
	i, ok := r.findView(fp)
	if !ok {
		r.st.Views = slices.Insert(r.st.Views, i, r.freshView(fp))
	}
	return &r.st.Views[i]
}

// peek is viewOf for queries, which must change nothing.
func (r *incident) peek(fp string) view.Item {
	if i, ok := r.findView(fp); ok {
		return r.st.Views[i]
	}
	return r.freshView(fp)
}

func (r *incident) findView(fp string) (int, bool) {
	i := sort.Search(len(r.st.Views), func(i int) bool { return r.st.Views[i].FP >= fp })
	return i, i < len(r.st.Views) && r.st.Views[i].FP == fp
}

func (r *incident) freshView(fp string) view.Item {
	v := view.Item{FP: fp, Short: activities.Key{FP: fp}.Short(), Death: view.Death{State: "alive", Needed: r.pb.Verify.K}, Adoption: view.Adoption{State: "not-wanted"}, Outcomes: []view.Outcome{}}
	if s := r.item(fp); s != nil {
		v.Provider, v.Account, v.Kind, v.KeyID, v.Owner = s.Key.Provider, s.Key.Account, s.Key.Kind, s.Key.ID, s.Owner
		if r.st.Disabled[fp] {
			v.Death.State = "disabled"
		}
	}
	return v
}
