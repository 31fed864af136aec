package workflows

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"rekey/internal/view"
)

// A NoticesRun is the notices of a wave, which run by themselves.
type NoticesRun struct {
	Wave    int    `json:"wave"`
	State   string `json:"state"` // running, ended
	LastEvt int64  `json:"last_event"`
	NextCmd int64  `json:"next_command"`
	// Sent are commands not yet delivered.
	Sent []WaveCommand `json:"sent,omitempty"`
}

// exposure tells a wave what its notices say of how the keys were exposed.
func (r *incident) exposure(in *WaveInput) {
	if len(in.Settings.Channels) == 0 {
		return
	}
	for _, rep := range r.st.Reports {
		since := rep.Received
		if !rep.Claimed.IsZero() {
			since = rep.Claimed
		}
		if in.Since.IsZero() || since.Before(in.Since) {
			in.Since = since
		}
		if in.Exposure == "" {
			in.Exposure = rep.Exposure
		}
	}
	for _, s := range r.st.Items {
		if s.Reading != nil && !s.Reading.Created.IsZero() {
			if in.Created == nil {
				in.Created = map[string]time.Time{}
			}
			in.Created[s.Key.FP] = s.Reading.Created
		}
	}
}

// telling notes that owners and customers of a wave are being told.
func (r *incident) telling(wave int) *NoticesRun {
	i := slices.IndexFunc(r.st.Notices, func(n NoticesRun) bool { return n.Wave == wave })
	if i < 0 {
		r.st.Notices = append(r.st.Notices, NoticesRun{Wave: wave, State: waveRunning})
		i = len(r.st.Notices) - 1
	}
	return &r.st.Notices[i]
}

// takeNotices receives what became of the notices.
func (r *incident) takeNotices(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalNotice)
	for {
		var e NoticeEvent
		if !take(ctx, ch, &e) {
			return
		}
		r.takeNotice(ctx, e)
	}
}

// takeNotice applies one event; a repeat is dropped by its number.
func (r *incident) takeNotice(ctx workflow.Context, e NoticeEvent) {
	run := r.telling(e.Wave)
	if e.Seq <= run.LastEvt {
		return
	}
	run.LastEvt, r.changed, r.stir = e.Seq, true, true
	switch e.Kind {
	case noticeTold:
		if e.Notice == nil {
			return
		}
		i := slices.IndexFunc(r.st.NoticeViews, func(n view.Notice) bool { return n.ID == e.Notice.ID })
		if i < 0 {
			r.st.NoticeViews = append(r.st.NoticeViews, *e.Notice)
			return
		}
		r.st.NoticeViews[i] = *e.Notice
	case noticeHuman:
		if e.Human != nil {
			r.putHuman(*e.Human)
		}
	case noticeEnded:
		run.State = waveOver
		r.chapters.pin(e.Chapters)
		r.chapters.keep(ctx, NoticesID(r.in.ID, e.Wave), "")
	}
}

// noticeCommand tells a wave's notices what a person said.
func (r *incident) noticeCommand(ctx workflow.Context, wave int, cmd WaveCommand) {
	run := r.telling(wave)
	run.NextCmd++
	cmd.Seq = run.NextCmd
	run.Sent = append(run.Sent, cmd)
	r.pushNotices(ctx)
}

// pushNotices delivers commands to the notices of every wave, each in order and
// until the server has taken them.
func (r *incident) pushNotices(ctx workflow.Context) {
	for i := range r.st.Notices {
		// Waves and notices have numbers of their own kind; these are below zero.
		wave := r.st.Notices[i].Wave
		if r.pushing[-wave] || len(r.st.Notices[i].Sent) == 0 {
			continue
		}
		r.pushing[-wave] = true
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer func() { r.pushing[-wave] = false }()
			for failed := 0; ; {
				run := r.telling(wave)
				if len(run.Sent) == 0 || run.State == waveOver {
					run.Sent = nil
					return
				}
				done := r.clk.working()
				err := workflow.SignalExternalWorkflow(ctx, NoticesID(r.in.ID, wave), "", SignalCommand, run.Sent[0]).Get(ctx, nil)
				done()
				if err != nil {
					failed++
					if workflow.Sleep(ctx, backoff(failed)) != nil {
						return
					}
					continue
				}
				failed = 0
				run = r.telling(wave)
				run.Sent = run.Sent[1:]
			}
		})
	}
}

// noticesIDs are the workflows that told somebody.
func (r *incident) noticesIDs() []string {
	var out []string
	for _, n := range r.st.Notices {
		out = append(out, NoticesID(r.in.ID, n.Wave))
	}
	return out
}

// noticesView counts the notices by state and lists them.
func (r *incident) noticesView() (view.Notices, []view.Notice) {
	var n view.Notices
	for _, t := range r.st.NoticeViews {
		switch t.State {
		case noticeQueued:
			n.Queued++
		case noticeSent:
			n.Sent++
		case noticeDelivered:
			n.Delivered++
		case noticeBounced:
			n.Bounced++
		case noticeAcknowledged:
			n.Acknowledged++
		case noticeUnclear:
			n.Unclear++
		}
	}
	return n, slices.Clone(r.st.NoticeViews)
}
