package devserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"

	"go.temporal.io/server/common/api"
	"go.temporal.io/server/common/authorization"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// credentials maps the bearer token of a call to what its bearer may do. Only digests are kept and compared, in
// constant time.
type credentials struct {
	full     [sha256.Size]byte
	readOnly [sha256.Size]byte
}

func newCredentials(full, readOnly string) credentials {
	return credentials{full: sha256.Sum256([]byte(full)), readOnly: sha256.Sum256([]byte(readOnly))}
}

var errNoCredential = errors.New("no valid credential")

// GetClaims implements authorization.ClaimMapper. Temporal calls it only when there is an authorization header; without
// one the claims are nil. Its internal frontend has a mapper of its own.
func (c credentials) GetClaims(info *authorization.AuthInfo) (*authorization.Claims, error) {
	token, ok := strings.CutPrefix(info.AuthToken, "Bearer ")
	sum := sha256.Sum256([]byte(token))
	full := subtle.ConstantTimeCompare(sum[:], c.full[:])
	readOnly := subtle.ConstantTimeCompare(sum[:], c.readOnly[:])
	switch {
	case !ok:
	case full == 1:
		return &authorization.Claims{Subject: "rekey", AuthType: "token", System: authorization.RoleAdmin}, nil
	case readOnly == 1:
		return &authorization.Claims{Subject: "temporal-ui", AuthType: "token", System: authorization.RoleReader}, nil
	}
	return nil, errNoCredential
}

// authorizer allows everything to rekey and to the server itself, read-only APIs to the UI, and only the gRPC health
// check to the rest. Unlike Temporal's default it does not give GetSystemInfo away.
type authorizer struct{}

// Authorize implements authorization.Authorizer.
func (authorizer) Authorize(_ context.Context, claims *authorization.Claims, target *authorization.CallTarget) (authorization.Result, error) {
	allow := authorization.Result{Decision: authorization.DecisionAllow}
	switch {
	case target.APIName == healthpb.Health_Check_FullMethodName:
		return allow, nil
	case claims == nil:
	case claims.System == authorization.RoleAdmin:
		return allow, nil
	case claims.System == authorization.RoleReader && readOnly(target.APIName):
		return allow, nil
	}
	return authorization.Result{Decision: authorization.DecisionDeny}, nil
}

// readOnly reports whether the API is one of the public services and Temporal's own table calls it read-only.
func readOnly(method string) bool {
	public := strings.HasPrefix(method, api.WorkflowServicePrefix) || strings.HasPrefix(method, api.OperatorServicePrefix)
	return public && api.GetMethodMetadata(method).Access == api.AccessReadOnly
}
