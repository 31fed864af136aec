package workflows

import "go.temporal.io/sdk/workflow"

// outbox is what a wave tells its incident, in order.
type outbox struct {
	incident string
	wave     int
	outclk   *clock
	seq      int64
	queue    []WaveEvent
}

// emit queues an event for the incident. A state that nobody was told yet is overtaken
// by the next one of the same item, or of the whole wave.
func (o *outbox) emit(e WaveEvent) {
	if n := len(o.queue) - 1; n > 0 {
		last := &o.queue[n]
		switch {
		case e.Kind == waveItem && last.Kind == waveItem && last.Item.FP == e.Item.FP:
			last.Item = e.Item
			return
		case e.Kind == waveTally && last.Kind == waveTally:
			last.Tally = e.Tally
			return
		}
	}
	o.seq++
	e.Seq, e.Wave = o.seq, o.wave
	o.queue = append(o.queue, e)
}

// sent tells whether everything was taken.
func (o *outbox) sent() bool { return len(o.queue) == 0 }

// send delivers the events one after another. A signal that was accepted by the
// server is in the incident's history; one that was not is sent again.
func (o *outbox) send(ctx workflow.Context) {
	for failed := 0; ; {
		if err := workflow.Await(ctx, func() bool { return len(o.queue) > 0 }); err != nil {
			return
		}
		done := o.outclk.working()
		err := workflow.SignalExternalWorkflow(ctx, IncidentID(o.incident), "", SignalWave, o.queue[0]).Get(ctx, nil)
		done()
		if err != nil {
			// The incident is between two runs, or closed by force. Its items are real
			// all the same: go on, and try again.
			failed++
			if workflow.Sleep(ctx, backoff(failed)) != nil {
				return
			}
			continue
		}
		failed = 0
		o.queue = o.queue[1:]
	}
}
