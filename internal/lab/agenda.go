package lab

import (
	"bufio"
	"container/heap"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// agenda is who of the consumers acts next: a heap by time, and at one time by their order in the
// scenario.
type agenda []*consumer

func (a agenda) Len() int { return len(a) }

func (a agenda) Less(i, j int) bool {
	if !a[i].Next.Equal(a[j].Next) {
		return a[i].Next.Before(a[j].Next)
	}
	return a[i].n < a[j].n
}

func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push is of heap.Interface.
func (a *agenda) Push(x any) { *a = append(*a, x.(*consumer)) }

// Pop is of heap.Interface.
func (a *agenda) Pop() any {
	last := len(*a) - 1
	c := (*a)[last]
	*a = (*a)[:last]
	return c
}

// plan puts all consumers that have something to do on the agenda.
func (w *world) plan() {
	w.agenda = w.agenda[:0]
	for n, c := range w.consumers {
		c.n = n
		if !c.Next.IsZero() {
			w.agenda = append(w.agenda, c)
		}
	}
	heap.Init(&w.agenda)
}

// due takes a consumer off the agenda that acts at a time or before, nil when there is none.
func (w *world) due(at time.Time) *consumer {
	if len(w.agenda) == 0 || w.agenda[0].Next.After(at) {
		return nil
	}
	return heap.Pop(&w.agenda).(*consumer)
}

// again puts a consumer back that acted.
func (w *world) again(c *consumer) {
	if !c.Next.IsZero() {
		heap.Push(&w.agenda, c)
	}
}

// consumersFile holds a line for each change of a consumer; the last one of each counts. It is
// written anew when most of it is old.
const consumersFile = "consumers.jsonl"

// storedConsumer is a line of the file; N is the consumer's place in the scenario.
type storedConsumer struct {
	N int `json:"n"`
	*consumer
}

// moved notes that a consumer is not what the file says.
func (w *world) moved(c *consumer) {
	if !c.moved {
		c.moved = true
		w.changed = append(w.changed, c)
	}
}

// saveConsumers writes the changed ones down.
func (w *world) saveConsumers() error {
	if len(w.changed) == 0 {
		return nil
	}
	for _, c := range w.changed {
		c.moved = false
		line, err := json.Marshal(storedConsumer{c.n, c})
		if err != nil {
			return err
		}
		w.stored.append(line)
	}
	w.lines += len(w.changed)
	w.changed = w.changed[:0]
	const old = 8 // lines to a consumer
	if w.lines > old*len(w.consumers)+1000 {
		return w.rewriteConsumers()
	}
	return w.stored.flush(w.stored.size())
}

// rewriteConsumers writes the file anew, one line to a consumer.
func (w *world) rewriteConsumers() error {
	path := filepath.Join(w.dir, consumersFile)
	err := replaceBy(path, false, func(to io.Writer) error {
		out := bufio.NewWriter(to)
		enc := json.NewEncoder(out)
		for _, c := range w.consumers {
			if err := enc.Encode(storedConsumer{c.n, c}); err != nil {
				return err
			}
		}
		return out.Flush()
	})
	if err != nil {
		return err
	}
	if w.stored != nil {
		if err := w.stored.file.Close(); err != nil {
			return err
		}
	}
	w.stored, err = openLines(path)
	w.lines = len(w.consumers)
	return err
}

func (w *world) loadConsumers() error {
	path := filepath.Join(w.dir, consumersFile)
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w (of an older build? its world is made up: use another directory)", err)
	}
	return readLines(path, func(line []byte, _ int64) error {
		c := &consumer{}
		s := storedConsumer{consumer: c}
		if err := json.Unmarshal(line, &s); err != nil {
			return err
		}
		switch {
		case s.N < len(w.consumers) && s.N >= 0:
			w.consumers[s.N] = c
		case s.N == len(w.consumers):
			w.consumers = append(w.consumers, c)
		default:
			return fmt.Errorf("consumer %d comes before consumer %d", s.N, len(w.consumers))
		}
		return nil
	})
}
