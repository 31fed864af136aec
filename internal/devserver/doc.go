// Package devserver runs a Temporal server and its UI inside the rekey process, on one SQLite file. It is the only
// package that imports go.temporal.io/server and temporalio/ui-server, because linking them costs 20 s: import it from
// the binary and its end-to-end tests alone. Everything that also works against a cluster is in temporalx.
//
// What stands between a caller and the engine:
//
//   - the frontend (gRPC and HTTP) takes a bearer token; without it only the gRPC health check answers;
//   - the UI holds a second, read-only token that exists in memory only, and the authorizer, not the UI, holds it to
//     read-only APIs;
//   - history, matching, worker and the internal frontend speak mutual TLS with a certificate made at start and kept in
//     memory: whoever connects to them is trusted by Temporal without further question, so their ports must not be
//     reachable by another local user.
//
// To change a limit or a latency of the server, see dynamicConfig; to open another API to the UI, see authorizer.
package devserver
