package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rekey/internal/view"
)

const (
	defaultInterval = time.Second
	leastInterval   = 10 * time.Millisecond
)

func intervalFlag(cmd *cobra.Command, d *time.Duration) {
	cmd.Flags().DurationVar(d, "interval", defaultInterval, "how often to look")
}

func (a *app) watchCommand() *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "watch ID",
		Short: "Follow an incident until it is closed",
		Long: `watch draws how far each phase is, how many keys are proven dead and who is waited
for. Not on a terminal it prints one line per change; with --json one object a
line, as "incident show --json" gives it. It ends when the incident is closed and
its bundle is sealed.`,
		Example: example("rekey incident watch inc-7f3a9c2e41d0", "rekey incident watch inc-7f3a9c2e41d0 --json | jq -r .state"),
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := incidentID(args[0]); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			sink := a.progressOn(a.io.Out, a.io.OutTTY)
			if a.asJSON {
				sink = &jsonProgress{out: a.io.Out}
			}
			_, err = a.follow(cmd.Context(), c, following{
				id: args[0], every: every, sink: sink,
				done: func(v view.Incident) bool { return v.Times.Closed != "" && v.Times.Sealed != "" },
			})
			if errors.Is(err, context.Canceled) {
				return nil // the person has seen enough
			}
			return err
		},
	}
	intervalFlag(cmd, &every)
	return cmd
}

// A progress shows one reading after the other.
type progress interface {
	show(v view.Incident, raw json.RawMessage) error
	// trouble says that the server did not answer, and goes on.
	trouble(err error)
	done()
}

// following says what is followed, how it is shown and until when.
type following struct {
	id    string
	every time.Duration
	sink  progress
	done  func(view.Incident) bool
	// known: the incident is known to be there, so a server that does not answer the
	// first time is waited for too.
	known bool
}

// A reading is an incident as it was last seen; raw is nil before the first one.
type reading struct {
	view.Incident
	raw json.RawMessage
}

// follow reads an incident until f.done says so, ctx ends (then the error is
// context.Canceled), or it is refused. A server that is away for a while is waited
// for: incidents outlive it.
func (a *app) follow(ctx context.Context, c *client, f following) (reading, error) {
	defer f.sink.done()
	var last reading
	for {
		var v view.Incident
		raw, err := c.get(ctx, incidentPath(f.id), nil, &v)
		switch {
		case ctx.Err() != nil:
			return last, context.Canceled
		case err == nil:
			last = reading{v, raw}
			if err := f.sink.show(v, raw); err != nil {
				return last, err
			}
			if f.done(v) {
				return last, nil
			}
		case (last.raw == nil && !f.known) || !asError(err).again:
			return last, err
		default:
			f.sink.trouble(err)
		}
		t := time.NewTimer(max(f.every, leastInterval))
		select {
		case <-ctx.Done():
			t.Stop()
			return last, context.Canceled
		case <-t.C:
		}
	}
}

// progressOn draws on a terminal and writes lines elsewhere.
func (a *app) progressOn(w io.Writer, tty bool) progress {
	if a.io.redraws(tty) {
		return &drawnProgress{io: a.io, out: w, p: palette(a.io.colour(tty))}
	}
	return &lineProgress{io: a.io, out: w}
}

// jsonProgress writes each reading that differs from the one before as one line.
type jsonProgress struct {
	out  io.Writer
	last string
}

func (j *jsonProgress) show(_ view.Incident, raw json.RawMessage) error {
	if string(raw) == j.last {
		return nil
	}
	j.last = string(raw)
	return writeRaw(j.out, raw, true)
}

func (j *jsonProgress) trouble(error) {}
func (j *jsonProgress) done()         {}

// lineProgress writes one line per change, with the time.
type lineProgress struct {
	io   IOStreams
	out  io.Writer
	last view.Incident
	away bool
	pace pace
	told time.Time // of the pace
}

// paceEvery is how often a line tells of the pace of a large incident.
const paceEvery = 30 * time.Second

func (l *lineProgress) show(v view.Incident, _ json.RawMessage) error {
	cleanAll(&v)
	if l.away {
		l.say("rekey answers again")
		l.away = false
	}
	for _, c := range changes(l.last, v) {
		l.say(c)
	}
	for _, q := range openApprovals(v) {
		if !wasOpen(l.last, q.ID) {
			l.say("to approve: " + approveHint(v, q))
		}
	}
	now := l.io.Now()
	l.pace.see(v, now)
	if text := l.pace.says(v); text != "" && now.Sub(l.told) >= paceEvery {
		l.say(text)
		l.told = now
	}
	l.last = v
	return nil
}

func wasOpen(v view.Incident, id string) bool {
	for _, a := range openApprovals(v) {
		if a.ID == id {
			return true
		}
	}
	return false
}

func (l *lineProgress) trouble(err error) {
	if !l.away {
		l.say(asError(err).Message + "; waiting for it")
	}
	l.away = true
}

func (l *lineProgress) say(text string) {
	fmt.Fprintf(l.out, "%s %s\n", l.io.Now().UTC().Format("15:04:05Z"), line(text))
}

func (l *lineProgress) done() {}

// drawnProgress draws each reading over the one before (ECMA-48: CUU, ED, DECTCEM).
type drawnProgress struct {
	io    IOStreams
	out   io.Writer
	p     palette
	rows  int
	width int
	last  []string
	pace  pace
}

const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	eraseBelow = "\x1b[J"
	eraseLine  = "\x1b[K"
	eraseAll   = "\x1b[H\x1b[2J"
)

func (d *drawnProgress) show(v view.Incident, _ json.RawMessage) error {
	cleanAll(&v)
	width, height := d.io.size()
	d.pace.see(v, d.io.Now())
	var pace []string
	if text := d.pace.says(v); text != "" {
		pace = append(pace, text)
	}
	d.last = frame(v, d.io.Now(), d.p, width, height, pace...)
	return d.draw(d.last, width)
}

func (d *drawnProgress) draw(lines []string, width int) error {
	var b strings.Builder
	switch {
	case d.rows == 0:
		b.WriteString(hideCursor)
	case width != d.width: // what was drawn has wrapped: its place cannot be told
		b.WriteString(eraseAll)
	default:
		b.WriteString("\r")
		if d.rows > 1 {
			fmt.Fprintf(&b, "\x1b[%dA", d.rows-1)
		}
	}
	// The cursor stays on the last line: a line end there could scroll the top away.
	b.WriteString(strings.Join(lines, eraseLine+"\n") + eraseLine + eraseBelow)
	d.rows, d.width = len(lines), width
	_, err := io.WriteString(d.out, b.String())
	return err
}

func (d *drawnProgress) trouble(err error) {
	width, _ := d.io.size()
	lines := append(append([]string{}, d.last...), cut(d.p.red("  "+line(asError(err).Message)+"; waiting for it"), width))
	// Only a broken terminal fails here, and the next frame says so.
	_ = d.draw(lines, width)
}

func (d *drawnProgress) done() {
	if d.rows > 0 {
		fmt.Fprintln(d.out, showCursor)
	}
}
