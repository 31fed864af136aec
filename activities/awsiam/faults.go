package awsiam

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"rekey/activities"
	"rekey/internal/httpx"
)

// An effect says what a repeated call does; the class of a lost answer depends on
// it.
type effect int

const (
	reads   effect = iota // changes nothing
	repeats               // changes something; twice is as good as once
	creates               // twice makes two
)

// codes classes the error codes of the services we call. Sources: IAM API
// Reference "Common Error Types"
// (https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html) and
// per-action errors (aws-sdk-go-v2/service/iam/types/errors.go, sts, cloudtrail
// and secretsmanager likewise); throttle codes: aws-sdk-go-v2 aws/retry
// standard.go, DefaultThrottleErrorCodes. What is not here is unclear.
var codes = map[string]activities.Class{
	"Throttling": activities.ClassThrottled, "ThrottlingException": activities.ClassThrottled,
	"ThrottledException": activities.ClassThrottled, "RequestThrottled": activities.ClassThrottled,
	"RequestThrottledException": activities.ClassThrottled, "RequestLimitExceeded": activities.ClassThrottled,
	"TooManyRequestsException": activities.ClassThrottled, "SlowDown": activities.ClassThrottled,
	"BandwidthLimitExceeded": activities.ClassThrottled, "PriorRequestNotComplete": activities.ClassThrottled,
	"ProvisionedThroughputExceededException": activities.ClassThrottled, "TransactionInProgressException": activities.ClassThrottled,
	"EC2ThrottledException": activities.ClassThrottled,

	"AccessDenied": activities.ClassDenied, "AccessDeniedException": activities.ClassDenied,
	"UnauthorizedOperation": activities.ClassDenied, "NotAuthorized": activities.ClassDenied, "OptInRequired": activities.ClassDenied,
	"CloudTrailAccessNotEnabledException": activities.ClassDenied,

	"EntityTemporarilyUnmodifiable": activities.ClassTransient, "ConcurrentModification": activities.ClassTransient,
	"ConcurrentModificationException": activities.ClassTransient, "ServiceUnavailable": activities.ClassTransient,
	"ServiceUnavailableException": activities.ClassTransient,

	"NoSuchEntity": activities.ClassInvalid, "NoSuchEntityException": activities.ClassInvalid,
	"ResourceNotFoundException": activities.ClassInvalid, "LimitExceeded": activities.ClassInvalid,
	"LimitExceededException": activities.ClassInvalid, "EntityAlreadyExists": activities.ClassInvalid,
	"ResourceExistsException": activities.ClassInvalid, "InvalidInput": activities.ClassInvalid,
	"ValidationError": activities.ClassInvalid, "ValidationException": activities.ClassInvalid,
	"InvalidParameterException": activities.ClassInvalid, "InvalidParameterValue": activities.ClassInvalid,
	"InvalidParameterCombination": activities.ClassInvalid, "InvalidRequestException": activities.ClassInvalid,
	"MissingParameter": activities.ClassInvalid, "MalformedPolicyDocument": activities.ClassInvalid,
	"UnmodifiableEntity": activities.ClassInvalid, "DeleteConflict": activities.ClassInvalid,
	"InvalidTimeRangeException": activities.ClassInvalid, "InvalidLookupAttributesException": activities.ClassInvalid,
	"InvalidNextTokenException": activities.ClassInvalid, "InvalidMaxResultsException": activities.ClassInvalid,
	"PackedPolicyTooLarge": activities.ClassInvalid, "RegionDisabledException": activities.ClassInvalid,
	"EncryptionFailure": activities.ClassInvalid, "DecryptionFailure": activities.ClassInvalid,
}

// credentialCodes: the credential itself is not accepted, whatever it may do.
// Names differ by service: Query services, JSON services, S3, EC2.
var credentialCodes = map[string]bool{
	"InvalidClientTokenId": true, "UnrecognizedClientException": true, "InvalidAccessKeyId": true, "AuthFailure": true,
	"ExpiredToken": true, "ExpiredTokenException": true, "InvalidToken": true,
}

// mismatchCodes: the id is live, the signature is not its secret's.
var mismatchCodes = map[string]bool{
	"SignatureDoesNotMatch": true, "InvalidSignatureException": true,
}

// deniedCodes: authenticated, and not allowed.
var deniedCodes = map[string]bool{"AccessDenied": true, "AccessDeniedException": true, "UnauthorizedOperation": true}

// missingCodes: this endpoint does not have the call.
var missingCodes = map[string]bool{
	"NotImplemented": true, "InvalidAction": true, "UnknownOperation": true, "UnknownOperationException": true, "UnsupportedOperation": true,
}

// classify turns what happened into the one Fault of the call. err is dropped:
// it may hold the vendor's text, headers or URLs.
func classify(ctx context.Context, op string, eff effect, x *exchange, err error) *activities.Fault {
	f := &activities.Fault{Op: op, Status: x.status, RequestID: x.requestID}
	set := func(c activities.Class, detail string) *activities.Fault {
		f.Class, f.Detail = c, detail
		return f
	}
	var own *activities.Fault
	if errors.As(err, &own) {
		own.Op = op
		return own
	}
	// An answer that came is judged by itself even when the context ended since.
	if x.status != 0 && x.status/100 != 2 && x.status/100 != 3 {
		return byAnswer(f, eff, x)
	}
	switch {
	case errors.Is(err, httpx.ErrAddress):
		return set(activities.ClassInvalid, httpx.ErrAddress.Error())
	case errors.Is(err, httpx.ErrRedirect) || x.status/100 == 3:
		return set(lost(eff), "the endpoint redirects to another host, which is refused; is a proxy in between?")
	case errors.Is(err, httpx.ErrTooLarge):
		return set(activities.ClassUnclear, "the answer is larger than allowed")
	case errors.Is(err, errNotAWS) || x.status != 0 && ctx.Err() == nil:
		return set(activities.ClassUnclear, "the answer cannot be read as AWS's; is a proxy in between?")
	case !x.wrote.Load() && ctx.Err() != nil:
		return set(activities.ClassTransient, cancelled)
	case !x.wrote.Load() && untrusted(err):
		return set(activities.ClassTransient, "the endpoint's certificate is not trusted; set ca_file if it is your own authority's")
	case !x.wrote.Load():
		return set(activities.ClassTransient, "no connection to the endpoint")
	case ctx.Err() != nil:
		return set(lost(eff), cancelledSent)
	}
	return set(lost(eff), "no answer came")
}

// lost is the class of a call whose answer did not come: a read can be asked
// again, anything else may have happened.
func lost(eff effect) activities.Class {
	if eff == reads {
		return activities.ClassTransient
	}
	return activities.ClassUnclear
}

func byAnswer(f *activities.Fault, eff effect, x *exchange) *activities.Fault {
	class, known := codes[x.code]
	switch {
	case known && class == activities.ClassThrottled, x.status == 429:
		f.Class, f.Detail, f.After = activities.ClassThrottled, "too many calls", x.retryAfter
	case known && class == activities.ClassDenied:
		f.Class, f.Detail, f.Permission = class, "our credential may not do this ("+x.code+")", f.Op
	case credentialCodes[x.code] || mismatchCodes[x.code]:
		f.Class, f.Detail = activities.ClassDenied, "our own credential is refused ("+x.code+"): check the credentials of this account in rekey.yaml"
	case missingCodes[x.code] || x.status == 501:
		f.Class, f.Detail = activities.ClassInvalid, notImplemented
	case known && class == activities.ClassTransient && eff == creates:
		f.Class, f.Detail = activities.ClassUnclear, x.code
	case known:
		f.Class, f.Detail = class, x.code
	case x.status >= 500 && x.code == "":
		f.Class, f.Detail = lost(eff), noCode
	case x.status >= 500:
		f.Class, f.Detail = lost(eff), fmt.Sprintf("the service failed (status %d)", x.status)
	default:
		f.Class, f.Detail = activities.ClassUnclear, fmt.Sprintf("an answer we do not know (status %d); is a proxy in between?", x.status)
	}
	return f
}

// Details of calls that nobody waited for.
const (
	cancelled     = "cancelled before the call was sent"
	cancelledSent = "cancelled before the answer came"
)

// notImplemented is the detail of a call that the endpoint does not have.
const notImplemented = "not implemented by this endpoint"

// noCode is the detail of a failure that names no code.
const noCode = "the service failed without an error code"

// absent tells that the endpoint seems not to have the call: AWS names a code with
// each failure, and 500 without one is how moto says that it lacks a call.
func absent(f *activities.Fault) bool { return f.Detail == noCode && f.Status == 500 }

// passing tells that reading again may well succeed.
func passing(f *activities.Fault) bool { return f.Retryable() && !absent(f) }

func untrusted(err error) bool {
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	return errors.As(err, &verify) || errors.As(err, &authority) || errors.As(err, &host)
}

// is tells whether f is the refusal with that code. Only codes of our own tables
// are in a Detail, so this compares fixed text.
func is(f *activities.Fault, code string) bool {
	return f != nil && f.Class == activities.ClassInvalid && f.Detail == code
}

func gone(f *activities.Fault) bool { return is(f, "NoSuchEntity") || is(f, "NoSuchEntityException") }

func invalid(op, format string, args ...any) *activities.Fault {
	return &activities.Fault{Class: activities.ClassInvalid, Op: op, Detail: fmt.Sprintf(format, args...)}
}
