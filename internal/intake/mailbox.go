package intake

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"rekey/workflows"
)

// Bounds of a mailbox.
const (
	// batchReports and batchBytes bound one message to an incident.
	batchReports = 50
	batchBytes   = 200 << 10
	// sendBurst messages to an incident go at once; further ones each sendSpan, with
	// what has come meanwhile. Each message is a workflow task of the incident and
	// some events of its history, whatever it holds.
	sendBurst = 4
	sendSpan  = 250 * time.Millisecond
	// postLimit bounds one delivery, which outlives whoever waits for it.
	postLimit = 30 * time.Second
	// mostBoxes bounds how many incidents are remembered.
	mostBoxes = 4096
)

// A mailbox brings reports to incidents: one message to an incident at a time, and in
// a storm many reports in one. Who posts waits until their report is durable.
type mailbox struct {
	deliver func(ctx context.Context, known bool, letters []*letter)

	mu    sync.Mutex
	boxes map[string]*box
}

// A letter is a report on its way.
type letter struct {
	input  workflows.IncidentInput
	report workflows.Report
	// recent: whose the key is was asked this time. Otherwise an incident that does
	// not run may not be the key's any more.
	recent bool
	size   int

	done chan struct{}
	delivered
	err error
}

func (l *letter) answer(d delivered, err error) {
	l.delivered, l.err = d, err
	close(l.done)
}

// A box is the reports for one incident.
type box struct {
	letters []*letter
	busy    bool
	// known: it ran when the last message was taken.
	known bool
	// room is how many messages may go at once at the time of stamp.
	room  float64
	stamp time.Time
}

func newMailbox(deliver func(ctx context.Context, known bool, letters []*letter)) *mailbox {
	return &mailbox{deliver: deliver, boxes: map[string]*box{}}
}

// post waits until the report is in its incident, and tells what that changed.
func (m *mailbox) post(ctx context.Context, l *letter) (delivered, error) {
	l.done = make(chan struct{})
	raw, err := json.Marshal(l.report)
	if err != nil {
		return delivered{}, err
	}
	l.size = len(raw)
	m.mu.Lock()
	b := m.boxes[l.input.ID]
	if b == nil {
		m.tidy()
		b = &box{room: sendBurst}
		m.boxes[l.input.ID] = b
	}
	b.letters = append(b.letters, l)
	if !b.busy {
		b.busy = true
		go m.carry(context.WithoutCancel(ctx), b)
	}
	m.mu.Unlock()
	select {
	case <-l.done:
		return l.delivered, l.err
	case <-ctx.Done():
		return delivered{}, ctx.Err() // it may arrive all the same; sent again it is the same report
	}
}

// tidy forgets incidents that nothing is on its way to.
func (m *mailbox) tidy() {
	if len(m.boxes) < mostBoxes {
		return
	}
	for id, b := range m.boxes {
		if !b.busy {
			delete(m.boxes, id)
		}
	}
}

// carry delivers what is in a box until it is empty.
func (m *mailbox) carry(ctx context.Context, b *box) {
	for {
		time.Sleep(m.wait(b))
		m.mu.Lock()
		batch := b.take()
		known := b.known
		if len(batch) == 0 {
			b.busy = false
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		limited, cancel := context.WithTimeout(ctx, postLimit)
		m.deliver(limited, known, batch)
		cancel()
		last := batch[len(batch)-1]
		m.mu.Lock()
		b.known = last.err == nil
		m.mu.Unlock()
	}
}

// wait is how long the next message to a box has to wait.
func (m *mailbox) wait(b *box) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(b.letters) == 0 {
		return 0
	}
	now := time.Now()
	b.room = min(sendBurst, b.room+float64(now.Sub(b.stamp))/float64(sendSpan))
	b.stamp = now
	b.room--
	if b.room >= 0 {
		return 0
	}
	return time.Duration(-b.room * float64(sendSpan))
}

func (b *box) take() []*letter {
	n, size := 0, 0
	for n < len(b.letters) && n < batchReports && (n == 0 || size+b.letters[n].size <= batchBytes) {
		size += b.letters[n].size
		n++
	}
	batch := b.letters[:n:n]
	b.letters = b.letters[n:]
	return batch
}

// errMoved means that an incident does not run, and that the key may have got another
// one since it was last asked.
var errMoved = errors.New("intake: ask again whose the key is")
