package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rekey/internal/config"
	"rekey/internal/secret/redact"
	"rekey/internal/view"
)

// Exit codes (contracts section 5).
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitOpen        = 3
	ExitNotVerified = 4
)

// Codes of errors that the command line itself finds. Codes of refused decisions
// are those of package view.
const (
	CodeUsage       = "usage"
	CodeUnreachable = "unreachable"
	CodeFailed      = "failed"
	CodeDrillFailed = "drill-failed"
	CodeFaultsFound = "faults-found"
	CodeOpen        = "not-all-clear"
	CodeVerify      = "verify-failed"
	CodeUnreadable  = "unreadable"
	CodeInterrupted = "interrupted"
)

// exits is the one place that turns a code into an exit code; every other code is
// a failure.
var exits = map[string]int{
	CodeUsage:  ExitUsage,
	CodeOpen:   ExitOpen,
	CodeVerify: ExitNotVerified,
}

// An Error is a failure with a code for scripts, a sentence for people and what
// to do about it. Commands of the [Engine] may return one; any other error has
// the code "failed".
type Error struct {
	Code    string
	Message string
	Do      string
	Err     error
	// Said: the command has printed its result, which tells the failure already.
	Said bool
	// again: the server is away for now; a reading call may be repeated.
	again bool
	// Usage: the server found the request malformed; nothing was started.
	Usage bool
}

func (e *Error) Error() string {
	if e.Do == "" {
		return e.Message
	}
	return e.Message + ": " + e.Do
}

func (e *Error) Unwrap() error { return e.Err }

// Usage is an error of the person who typed the command: nothing was started.
func Usage(do, format string, args ...any) error {
	return &Error{Code: CodeUsage, Message: fmt.Sprintf(format, args...), Do: do}
}

// Failed is a failure with a code of its own.
func Failed(code, do, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Do: do}
}

// said marks a failure that the printed result tells already.
func said(code, message string) error {
	return &Error{Code: code, Message: message, Said: true}
}

// asError gives every error its code.
func asError(err error) *Error {
	var e *Error
	var invalid *config.InvalidError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &invalid):
		return &Error{Code: CodeUsage, Message: invalid.Error(), Do: "mend the configuration; nothing was started", Err: err}
	case errors.Is(err, context.Canceled):
		return &Error{Code: CodeInterrupted, Message: "interrupted", Err: err}
	}
	return &Error{Code: CodeFailed, Message: err.Error(), Err: err}
}

func (e *Error) exit() int {
	if e.Usage {
		return ExitUsage
	}
	if n, ok := exits[e.Code]; ok {
		return n
	}
	return ExitFailed
}

// finish reports err and gives the exit code.
func finish(s IOStreams, asJSON bool, err error) int {
	if err == nil {
		return ExitDone
	}
	e := asError(err)
	if e.Said {
		return e.exit()
	}
	told := *e
	told.Message, told.Do = withoutSecrets(e.Message), withoutSecrets(e.Do)
	if asJSON {
		writeLine(s.Out, errorDocument(&told))
	}
	fmt.Fprintf(s.Err, "rekey: %s\n", clean(told.Message))
	if told.Do != "" {
		fmt.Fprintf(s.Err, "       %s\n", strings.ReplaceAll(clean(told.Do), "\n", "\n       "))
	}
	return e.exit()
}

// withoutSecrets is text without what looks like a secret: an error repeats what is
// wrong in a file, and a secret in the wrong place is what may be wrong.
func withoutSecrets(text string) string {
	r, err := redact.New(redact.Options{})
	if err != nil {
		return "what is wrong cannot be shown"
	}
	return r.String(text)
}

func errorDocument(e *Error) view.Error {
	return view.Error{Error: view.ErrorBody{Code: e.Code, Message: e.Message, Do: e.Do}}
}
