// Package temporalx is everything rekey needs to reach a Temporal cluster it did not start: dialling with
// credentials, the namespace and the search attributes. It does not import go.temporal.io/server, so that
// `rekey worker`, `rekey serve` and `rekey doctor` do not pay for the embedded server.
//
// To add a search attribute, add it to SearchAttributes: every path (embedded, cluster, doctor) registers from
// that one list, and a workflow must not upsert an attribute that is not in it.
package temporalx
