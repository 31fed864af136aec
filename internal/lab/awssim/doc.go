// Package awssim is one simulated AWS account that speaks AWS's own wire protocols, so that
// aws-sdk-go-v2 works against it unmodified: IAM and STS as AWS Query (XML), CloudTrail and
// Secrets Manager as AWS JSON 1.1, every request signed with Signature Version 4 and every
// decision taken by policy evaluation.
//
// What it is careful about, because rekey's decisions rest on it:
//   - a change of a key or a policy takes effect after the propagation time, for authentication
//     and authorisation; reading the state back is immediate (see replica.go);
//   - sessions outlive the key that made them; only a policy stops them;
//   - GetCallerIdentity is never denied by policy; a session from GetSessionToken without MFA
//     cannot call IAM at all (https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html);
//   - inactive keys count for the quota, and a deleted key looks like one that never existed;
//   - CloudTrail has every call by a known key, refused ones with errorCode, and never a secret.
//
// Times are the world's: the caller gives Now. A signature may carry any date the world or the
// wall clock has shown since the start (sigv4.go), because clients sign with wall time and the
// SDK corrects itself by the Date header, which is world time.
//
// A Sim is not safe for concurrent use: its owner (internal/lab) holds one lock around Serve and
// Invoke, so that clock, state and log move together.
//
// To add an action: a function with signature `func(*Sim, *call) (any, *APIError)` and its line
// in the operations table of its service file; the table says whether it changes anything, which
// resource it is authorised on and which verb of the provider contract it belongs to. The result
// is a struct with xml tags (Query) or json tags (JSON 1.1).
package awssim
