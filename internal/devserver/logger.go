package devserver

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// maxLogBytes is when temporal.log becomes temporal.log.1 at the next start.
const maxLogBytes = 10 << 20

// openLog opens DataDir/temporal.log for a server that was given no logger.
func openLog(dir string) (*os.File, error) {
	name := filepath.Join(dir, logName)
	if info, err := os.Stat(name); err == nil && info.Size() > maxLogBytes {
		if err := os.Rename(name, name+".1"); err != nil {
			return nil, fmt.Errorf("Temporal's log: %w", err)
		}
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("Temporal's log: %w", writeError(dir, err))
	}
	return f, nil
}

// fatal takes the first failure after which the server cannot go on.
type fatal struct {
	once sync.Once
	done chan struct{}
	err  error // set before done is closed
}

func newFatal() *fatal { return &fatal{done: make(chan struct{})} }

func (f *fatal) set(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.done)
	})
}

func (f *fatal) get() error {
	select {
	case <-f.done:
		return f.err
	default:
		return nil
	}
}

// logger is Temporal's logger on slog: warnings and above only, since its information level has a line per task
// queue and shard. Payloads are not in it: Temporal sees them encrypted.
type logger struct {
	to    *slog.Logger
	fatal *fatal
}

var _ log.WithLogger = logger{}

func (l logger) Debug(string, ...tag.Tag) {}
func (l logger) Info(string, ...tag.Tag)  {}
func (l logger) Warn(msg string, tags ...tag.Tag) {
	l.write(slog.LevelWarn, msg, tags)
}
func (l logger) Error(msg string, tags ...tag.Tag) {
	l.write(slog.LevelError, msg, tags)
}
func (l logger) DPanic(msg string, tags ...tag.Tag) {
	l.write(slog.LevelError, msg, tags)
}

// Panic implements log.Logger; Temporal relies on it not returning.
func (l logger) Panic(msg string, tags ...tag.Tag) {
	l.write(slog.LevelError, msg, tags)
	panic(msg)
}

// Fatal implements log.Logger. Temporal expects the process to end here; a library must not do that, so the failure is
// recorded for Server.Failed and only this goroutine ends.
func (l logger) Fatal(msg string, tags ...tag.Tag) {
	l.write(slog.LevelError, msg, tags)
	l.fatal.set(fmt.Errorf("the embedded Temporal server failed: %s", msg))
	runtime.Goexit()
}

// With implements log.WithLogger.
func (l logger) With(tags ...tag.Tag) log.Logger {
	return logger{to: l.to.With(attrs(tags)...), fatal: l.fatal}
}

func (l logger) write(level slog.Level, msg string, tags []tag.Tag) {
	if l.to.Enabled(context.Background(), level) {
		l.to.Log(context.Background(), level, msg, attrs(tags)...)
	}
}

func attrs(tags []tag.Tag) []any {
	out := make([]any, 0, len(tags))
	for _, t := range tags {
		out = append(out, slog.Any(t.Key(), t.Value()))
	}
	return out
}
