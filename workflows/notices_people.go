package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"rekey/internal/canon"
	"rekey/internal/event"
	"rekey/internal/view"
)

// sendAgain is how a person has an unclear notice sent once more.
const sendAgain = "send-again"

// noticeTask is the id of a step of a wave's notices.
func noticeTask(wave, n int) string { return fmt.Sprintf("n%d-%d", wave, n) }

// noticesOf gives the wave whose notices a step belongs to; false for other steps.
func noticesOf(task string) (int, bool) {
	var wave, k int
	_, err := fmt.Sscanf(task, "n%d-%d", &wave, &k)
	return wave, err == nil && wave > 0
}

// page opens a step for a person.
func (n *notices) page(ctx workflow.Context, s *NoticeState, h view.Human) view.Human {
	n.st.Humans++
	h.ID, h.State, h.Owner = noticeTask(n.in.Wave, n.st.Humans), "open", "commander"
	if s.View.Audience == "owner" {
		h.Owner = s.View.Ref
	}
	h.Due = canon.Time(n.clk.Now(ctx).Add(humanDue))
	open := h
	n.emit(NoticeEvent{Kind: noticeHuman, Human: &open})
	record(ctx, n.clk.Now(ctx), event.Event{Type: event.EventHuman, Attrs: map[string]string{"task": h.ID, "what": h.What, "owner": h.Owner, "due": h.Due, "notice": s.View.ID}})
	n.changed = true
	return h
}

// ask opens a step without which the notice does not go on.
func (n *notices) ask(ctx workflow.Context, s *NoticeState, h view.Human) {
	h = n.page(ctx, s, h)
	h.Text = "" // the incident has it
	s.Task = &h
}

// byHand leaves a notice to a person, with the text ready.
func (n *notices) byHand(ctx workflow.Context, s *NoticeState, why string) {
	n.lapse(s)
	h := view.Human{What: fmt.Sprintf("tell %s %s by hand (notice %s), then resolve; %s", s.View.Audience, s.View.Ref, s.View.ID, why)}
	if s.View.Text == "" {
		n.ask(ctx, s, h)
		return
	}
	i := n.index(s)
	n.writing++
	workflow.Go(ctx, func(ctx workflow.Context) {
		res, err := engineCall[NoticeTextResult](ctx, n.clk, engine, ActivityNoticeText, "text of a notice", NoticeTextInput{Text: n.st.Notices[i].View.Text})
		if err != nil {
			return // cancelled
		}
		h.Text = res.Text
		n.ask(ctx, &n.st.Notices[i], h)
		n.writing--
		n.changed = true
	})
}

func (n *notices) index(s *NoticeState) int {
	for i := range n.st.Notices {
		if n.st.Notices[i].View.ID == s.View.ID {
			return i
		}
	}
	return -1
}

// lapse takes the steps back that nobody need do any more.
func (n *notices) lapse(s *NoticeState) {
	for _, h := range []*view.Human{s.Task, s.Late} {
		if h != nil {
			h.State = "lapsed"
			n.emit(NoticeEvent{Kind: noticeHuman, Human: h})
		}
	}
	s.Task, s.Late = nil, nil
}

// command takes what a person said of a step.
func (n *notices) command(ctx workflow.Context, cmd WaveCommand) {
	if cmd.Seq <= n.st.LastCmd {
		return // a repeat
	}
	n.st.LastCmd, n.changed = cmd.Seq, true
	for i := range n.st.Notices {
		s := &n.st.Notices[i]
		switch {
		case s.Late != nil && s.Late.ID == cmd.Task:
			s.Late = nil
			s.Failures, s.Due = 0, n.clk.Now(ctx) // they may have mended it
		case s.Task != nil && s.Task.ID == cmd.Task:
			s.Task = nil
			switch {
			case cmd.As == sendAgain && s.View.State == noticeUnclear:
				s.Round++
				s.Attempts, s.Failures, s.Due = 0, 0, n.clk.Now(ctx)
				n.become(ctx, s, noticeQueued, "sent again, says "+cmd.Actor)
			case cmd.As == "waived":
				n.become(ctx, s, noticeBounced, "waived by "+cmd.Actor)
			default:
				n.become(ctx, s, noticeSent, "by hand, says "+cmd.Actor)
			}
		}
	}
}
