package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
)

// IOStreams is everything through which a command meets the world, so that tests
// run commands in process.
type IOStreams struct {
	In       io.Reader
	Out, Err io.Writer
	// InTTY, OutTTY and ErrTTY tell which of them is a terminal.
	InTTY, OutTTY, ErrTTY bool
	// Size gives the terminal's columns and rows; zeros when unknown.
	Size func() (width, height int)
	// ReadPassword reads a line from the terminal without showing it.
	ReadPassword func() ([]byte, error)
	// Env looks up an environment variable.
	Env func(string) (string, bool)
	// Now is the wall clock.
	Now func() time.Time
}

// System gives the streams of this process.
func System() IOStreams {
	terminal := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	return IOStreams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTTY: terminal(os.Stdin), OutTTY: terminal(os.Stdout), ErrTTY: terminal(os.Stderr),
		Size: func() (int, int) {
			for _, f := range []*os.File{os.Stdout, os.Stderr} {
				if w, h, err := term.GetSize(int(f.Fd())); err == nil {
					return w, h
				}
			}
			return 0, 0
		},
		ReadPassword: func() ([]byte, error) { return term.ReadPassword(int(os.Stdin.Fd())) },
		Env:          os.LookupEnv,
		Now:          time.Now,
	}
}

func (s IOStreams) env(name string) string {
	v, _ := s.Env(name)
	return v
}

// colour tells whether text on a stream may be coloured (https://no-color.org).
func (s IOStreams) colour(tty bool) bool {
	return tty && s.env("NO_COLOR") == "" && s.env("TERM") != "dumb"
}

// redraws tells whether a stream can be drawn over in place.
func (s IOStreams) redraws(tty bool) bool { return tty && s.env("TERM") != "dumb" }

const (
	defaultWidth  = 100
	defaultHeight = 24
)

func (s IOStreams) size() (width, height int) {
	if s.Size != nil {
		width, height = s.Size()
	}
	if width <= 0 {
		width = defaultWidth
	}
	if height <= 0 {
		height = defaultHeight
	}
	return width, height
}

// Main runs rekey with the arguments of the process and gives its exit code.
// Ctrl-C and SIGTERM cancel the running command.
func Main(engine Engine) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second Ctrl-C ends the process at once
	}()
	return Run(ctx, os.Args[1:], System(), engine)
}
