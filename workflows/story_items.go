package workflows

import (
	"strings"

	"rekey/activities/notify"
	"rekey/internal/view"
)

// tellItems tells what of an item is worth a line: that its old key is proven dead,
// that its replacement is out and in use, and how it ended.
func (r *incident) tellItems(n *narration, m *Marks) {
	for _, s := range r.st.Items {
		i, ok := r.findView(s.Key.FP)
		if !ok {
			continue
		}
		v := &r.st.Views[i]
		was, now := m.Items[v.FP], ItemMark{Dead: v.Death.State == "dead", End: v.EndState, Adoption: adoptionTold(v.Adoption.State)}
		if was == now {
			continue
		}
		if m.Items == nil {
			m.Items = map[string]ItemMark{}
		}
		m.Items[v.FP] = now
		name := keyName(s.Key)
		end := ""
		if now.End != "" && now.End != was.End {
			end = now.End
			if v.Approver != "" {
				end += " by " + v.Approver
			}
			if v.Until != "" {
				end += " until " + v.Until
			}
			if v.Why != "" {
				end += ": " + clip(v.Why, phraseMost)
			}
		}
		if now.Adoption != was.Adoption {
			tellAdoption(n, name, v.Adoption)
		}
		switch {
		case now.Dead && !was.Dead:
			if end != "" {
				end = ", and it ended " + end
			}
			n.add(notify.KindDead, or(v.Death.Grade, "no grade"), "%s is proven dead, grade %s: first refused %s%s", name, or(v.Death.Grade, "-"), or(v.Death.FirstRefused, "at a time not known"), end)
		case end != "":
			n.add(notify.KindEnd, now.End, "%s ended %s", name, end)
		case was.Dead && !now.Dead:
			n.urgent(notify.KindHuman, "out again", "%s was proven dead and is out again: it is being made harmless anew", name)
		}
	}
}

// adoptionTold gives the states of an adoption that a line tells; "" for the others.
func adoptionTold(adoption string) string {
	switch adoption {
	case "distributed", "adopted", "waived", "unclear":
		return adoption
	}
	return ""
}

func tellAdoption(n *narration, name string, a view.Adoption) {
	of := "the replacement of " + name
	if a.NewKeyID != "" {
		of = a.NewKeyID + ", " + of + ","
	}
	switch a.State {
	case "distributed":
		n.add(notify.KindAdopt, a.State, "%s is distributed: %s took it", of, plural(a.Receipts, "store"))
	case "adopted":
		n.add(notify.KindAdopt, a.State, "%s is adopted: %d of %s use it", of, a.CutOver, plural(a.Dependents, "dependent"))
	case "waived":
		n.add(notify.KindAdopt, a.State, "%s is not waited for any more: nobody has to adopt it", of)
	case "unclear":
		n.urgent(notify.KindAdopt, a.State, "%s: whether it is in use cannot be told", of)
	}
}

// tellNotices tells what became of messages to owners and customers: by their refs,
// never by an address.
func (r *incident) tellNotices(n *narration, m *Marks) {
	for _, v := range r.st.NoticeViews {
		was := m.Notices[v.ID]
		if v.State == was || v.State == noticeQueued || v.State == noticeSuperseded {
			continue
		}
		if m.Notices == nil {
			m.Notices = map[string]string{}
		}
		m.Notices[v.ID] = v.State
		text := strings.TrimSpace(v.Audience + " " + v.Ref)
		if v.Channel != "" {
			text += " by " + v.Channel
		}
		if v.Detail != "" && v.State != noticeSent && v.State != noticeDelivered {
			text += ": " + clip(v.Detail, phraseMost)
		}
		// What needs a person has opened a step, which is told at once.
		n.add(notify.KindNotice, v.State, "%s is %s (%s, version %d): %s", v.ID, v.State, v.Class, v.Version, text)
	}
}
