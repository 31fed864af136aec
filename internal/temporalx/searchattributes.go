package temporalx

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
)

// SearchAttributes returns the attributes of contracts section 7 with their types. None of them ever holds a key,
// a person or customer text: Temporal does not encrypt them.
func SearchAttributes() map[string]enumspb.IndexedValueType {
	return map[string]enumspb.IndexedValueType{
		"RekeyProvider":       enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST,
		"RekeySeverity":       enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		"RekeyPhase":          enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		"RekeyOpenItems":      enumspb.INDEXED_VALUE_TYPE_INT,
		"RekeyCustomerImpact": enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		"RekeyIncident":       enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	}
}

// MissingSearchAttributes returns the names that the namespace lacks, sorted. An attribute registered with another
// type is an error that says so, because it can only be mended by an administrator.
func MissingSearchAttributes(ctx context.Context, c Cluster, namespace string) ([]string, error) {
	got, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return nil, attributeError(err, namespace, nil)
	}
	var missing, wrong []string
	for name, want := range SearchAttributes() {
		has, ok := got.GetCustomAttributes()[name]
		switch {
		case !ok:
			missing = append(missing, name)
		case has != want:
			wrong = append(wrong, fmt.Sprintf("%s is %s, not %s", name, has, want))
		}
	}
	slices.Sort(missing)
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return missing, fmt.Errorf("Temporal namespace %q has search attributes of another type (%s): use another namespace, or have an administrator rename them", namespace, strings.Join(wrong, ", "))
	}
	return missing, nil
}

// EnsureSearchAttributes registers what is missing through the operator service, the same way for SQLite, PostgreSQL
// and Elasticsearch, on a new or an old namespace, and returns when a list query accepts every attribute. It must
// run before a worker polls: an upsert of an attribute that is not registered fails the workflow task, which Temporal
// then retries for ever. Idempotent; two processes may run it at once. added holds the names it registered.
func EnsureSearchAttributes(ctx context.Context, c Cluster, namespace string) (added []string, err error) {
	missing, err := MissingSearchAttributes(ctx, c, namespace)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		wanted := SearchAttributes()
		maps.DeleteFunc(wanted, func(name string, _ enumspb.IndexedValueType) bool { return !slices.Contains(missing, name) })
		_, err := c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
			Namespace: namespace, SearchAttributes: wanted,
		})
		if err != nil && code(err) != codes.AlreadyExists {
			return nil, attributeError(err, namespace, missing)
		}
		added = missing
	}
	return added, untilAccepted(ctx, func(ctx context.Context) error {
		_, err := c.WorkflowService().CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{
			Namespace: namespace, Query: everyAttribute(),
		})
		return err
	})
}

// everyAttribute is a query that names each attribute once and matches nothing.
func everyAttribute() string {
	attributes := SearchAttributes()
	var terms []string
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		value := `"-"`
		if attributes[name] == enumspb.INDEXED_VALUE_TYPE_INT {
			value = "-1"
		}
		terms = append(terms, name+" = "+value)
	}
	return strings.Join(terms, " AND ")
}

func attributeError(err error, namespace string, missing []string) error {
	switch code(err) {
	case codes.PermissionDenied, codes.Unauthenticated:
		return fmt.Errorf("not allowed to register search attributes in Temporal namespace %q: have an administrator run %s", namespace, registerCommand(namespace, missing))
	case codes.NotFound:
		return fmt.Errorf("Temporal namespace %q does not exist: create it with `temporal operator namespace create --namespace %s --retention 720h`, or run `rekey doctor --fix`", namespace, namespace)
	case codes.InvalidArgument:
		return fmt.Errorf("Temporal namespace %q has no room for %s (SQL visibility offers 10 Keyword, 3 KeywordList and 3 Int): use a namespace of its own", namespace, strings.Join(missing, ", "))
	default:
		return fmt.Errorf("registering search attributes in Temporal namespace %q failed (%s): check that the cluster is healthy and try again", namespace, code(err))
	}
}

func registerCommand(namespace string, missing []string) string {
	types := map[enumspb.IndexedValueType]string{
		enumspb.INDEXED_VALUE_TYPE_KEYWORD:      "Keyword",
		enumspb.INDEXED_VALUE_TYPE_KEYWORD_LIST: "KeywordList",
		enumspb.INDEXED_VALUE_TYPE_INT:          "Int",
	}
	if len(missing) == 0 {
		missing = slices.Sorted(maps.Keys(SearchAttributes()))
	}
	command := "`temporal operator search-attribute create --namespace " + namespace
	for _, name := range missing {
		command += " --name " + name + " --type " + types[SearchAttributes()[name]]
	}
	return command + "`"
}
