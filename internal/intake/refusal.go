package intake

import (
	"fmt"

	"rekey/internal/view"
)

// A Kind says whose mistake a refusal is.
type Kind int

// The kinds.
const (
	Malformed   Kind = iota // the request can never work: 400
	Forbidden               // a ceiling of rekey.yaml forbids it: 403
	Unavailable             // nothing was started; try again: 503
)

// A Refusal is a report that was not taken. Its text holds nothing of the
// request that could be a secret.
type Refusal struct {
	Kind Kind
	Body view.ErrorBody
	// Cause is for the server's own log, nil when there is nothing more to say.
	Cause error
}

func (r *Refusal) Error() string { return r.Body.Code + ": " + r.Body.Message + ": " + r.Body.Do }

// Unwrap gives the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

// CodeUnreachable and CodeCeiling are codes besides those of package view.
const (
	CodeUnreachable = "unreachable"
	CodeCeiling     = "ceiling"
)

func malformed(do, format string, args ...any) error {
	return &Refusal{Kind: Malformed, Body: view.ErrorBody{Code: view.CodeInvalid, Message: fmt.Sprintf(format, args...), Do: do}}
}

func forbidden(do, format string, args ...any) error {
	return &Refusal{Kind: Forbidden, Body: view.ErrorBody{Code: CodeCeiling, Message: fmt.Sprintf(format, args...), Do: do}}
}

func unavailable(cause error, do, message string) error {
	return &Refusal{Kind: Unavailable, Body: view.ErrorBody{Code: CodeUnreachable, Message: message, Do: do}, Cause: cause}
}
