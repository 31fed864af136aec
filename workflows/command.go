package workflows

import "go.temporal.io/sdk/workflow"

// command sends a wave a command, in order and until the server has taken it.
func (r *incident) command(ctx workflow.Context, n int, cmd WaveCommand) {
	w := r.waveN(n)
	if w == nil {
		return
	}
	w.NextCmd++
	cmd.Seq = w.NextCmd
	if r.st.Sent == nil {
		r.st.Sent = map[int][]WaveCommand{}
	}
	r.st.Sent[n] = append(r.st.Sent[n], cmd)
	r.pump(ctx, n)
}

// pump delivers the commands of one wave, one after another.
func (r *incident) pump(ctx workflow.Context, n int) {
	if r.pushing[n] || len(r.st.Sent[n]) == 0 {
		return
	}
	r.pushing[n] = true
	workflow.Go(ctx, func(ctx workflow.Context) {
		defer func() { r.pushing[n] = false }()
		for failed := 0; len(r.st.Sent[n]) > 0; {
			done := r.clk.working()
			err := workflow.SignalExternalWorkflow(ctx, WaveID(r.in.ID, n), "", SignalCommand, r.st.Sent[n][0]).Get(ctx, nil)
			done()
			if err != nil {
				if w := r.waveN(n); w == nil || w.State == waveOver {
					delete(r.st.Sent, n) // it has nobody left to tell
					return
				}
				failed++
				if workflow.Sleep(ctx, backoff(failed)) != nil {
					return
				}
				continue
			}
			failed = 0
			if r.st.Sent[n] = r.st.Sent[n][1:]; len(r.st.Sent[n]) == 0 {
				delete(r.st.Sent, n)
			}
		}
	})
}
