package activities

import (
	"errors"
	"fmt"
	"time"
)

// A Class says what a failed call means for the next step. The provider decides
// it once, where it knows the vendor's errors.
type Class string

// The classes. Anything a provider cannot place is [ClassUnclear].
const (
	ClassTransient Class = "transient" // nothing happened; repeat with the same input
	ClassThrottled Class = "throttled" // nothing happened; repeat, not before After
	ClassUnclear   Class = "unclear"   // may have taken effect: verify, then repeat
	ClassDenied    Class = "denied"    // our own credential lacks the right
	ClassInvalid   Class = "invalid"   // the input can never work
)

// A Fault is a failed provider call. It never holds vendor text, bodies or
// credentials: it is written into histories, logs and bundles.
type Fault struct {
	Class Class
	// Op names the vendor operation, "iam:UpdateAccessKey".
	Op string
	// Detail is our own sentence about it, fixed text plus identifiers.
	Detail string
	// Permission is the right we lack, when Class is denied.
	Permission string
	// After is how long to wait, when Class is throttled. 0: not said.
	After time.Duration
	// RequestID and Status are the provider's, for its support desk.
	RequestID string
	Status    int
}

// Error gives the fault in one line.
func (f *Fault) Error() string {
	s := fmt.Sprintf("%s: %s: %s", f.Op, f.Class, f.Detail)
	if f.Permission != "" {
		s += " (needs " + f.Permission + ")"
	}
	return s
}

// Retryable tells whether the same call may be made again without first
// finding out what the last one did.
func (f *Fault) Retryable() bool { return f.Class == ClassTransient || f.Class == ClassThrottled }

// AsFault finds the Fault in err. An error that nobody classed is unclear: it
// may have happened; its text is dropped because it may hold vendor text.
func AsFault(op string, err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return &Fault{Class: ClassUnclear, Op: op, Detail: "unclassified error"}
}
