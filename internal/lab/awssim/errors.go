package awssim

import (
	"fmt"
	"net/http"
	"time"
)

// APIError is an answer that is not a success, in AWS's own words.
type APIError struct {
	Status     int
	Code       string // as the Query services say it; JSON services have their own names, see jsonCode
	Message    string
	RetryAfter time.Duration
}

func (e *APIError) Error() string { return e.Code + ": " + e.Message }

func fail(status int, code, format string, args ...any) *APIError {
	return &APIError{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func noSuchEntity(format string, args ...any) *APIError {
	return fail(http.StatusNotFound, "NoSuchEntity", format, args...)
}

func invalidToken() *APIError {
	return fail(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid.")
}

func validation(format string, args ...any) *APIError {
	return fail(http.StatusBadRequest, "ValidationError", format, args...)
}

// jsonCode gives the name that AWS JSON 1.1 services use for a refusal, and its status. The Query
// services and the JSON services disagree on both
// (https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/CommonErrors.html).
func jsonCode(e *APIError) (string, int) {
	switch e.Code {
	case "InvalidClientTokenId":
		return "UnrecognizedClientException", http.StatusBadRequest
	case "SignatureDoesNotMatch":
		return "InvalidSignatureException", http.StatusBadRequest
	case "AccessDenied":
		return "AccessDeniedException", http.StatusBadRequest
	case "ExpiredToken":
		return "ExpiredTokenException", http.StatusBadRequest
	case "MissingAuthenticationToken":
		return "MissingAuthenticationTokenException", http.StatusBadRequest
	case "IncompleteSignature":
		return "IncompleteSignatureException", http.StatusBadRequest
	case "Throttling":
		return "ThrottlingException", e.Status
	case "InvalidAction":
		return "UnknownOperationException", http.StatusBadRequest
	case "ServiceUnavailable":
		return "ServiceUnavailableException", e.Status
	default:
		return e.Code, e.Status
	}
}
