package temporalx

import (
	"context"
	"errors"
	"fmt"
	"time"

	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
)

// MinimumRetention is what `doctor` asks of a namespace: closed runs must outlive the sealing of their bundle.
const MinimumRetention = 30 * 24 * time.Hour

// Cluster is the part of client.Client that set-up needs.
type Cluster interface {
	WorkflowService() workflowservice.WorkflowServiceClient
	OperatorService() operatorservice.OperatorServiceClient
}

// Retention is how long the namespace keeps closed runs. The error is the cluster's.
func Retention(ctx context.Context, c Cluster, name string) (time.Duration, error) {
	d, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: name})
	if err != nil {
		return 0, err
	}
	return d.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(), nil
}

// EnsureNamespace makes the namespace exist with at least the retention given, and returns when the cluster accepts
// calls on it. It creates a missing namespace and raises a shorter retention; it never lowers one, because closed
// runs would be deleted earlier than their owner expects. Idempotent; two processes may run it at once.
func EnsureNamespace(ctx context.Context, c Cluster, name string, retention time.Duration) (created bool, err error) {
	described, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: name})
	var missing *serviceerror.NamespaceNotFound
	switch {
	case errors.As(err, &missing):
		_, err = c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
			Namespace:                        name,
			WorkflowExecutionRetentionPeriod: durationpb.New(retention),
		})
		var exists *serviceerror.NamespaceAlreadyExists
		if err != nil && !errors.As(err, &exists) {
			return false, namespaceError(err, name, retention)
		}
		created = err == nil
	case err != nil:
		return false, namespaceError(err, name, retention)
	case described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration() < retention:
		_, err = c.WorkflowService().UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
			Namespace: name,
			Config:    &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: durationpb.New(retention)},
		})
		if err != nil {
			return false, namespaceError(err, name, retention)
		}
	}
	return created, untilAccepted(ctx, func(ctx context.Context) error {
		_, err := c.WorkflowService().CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: name})
		return err
	})
}

func namespaceError(err error, name string, retention time.Duration) error {
	switch code(err) {
	case codes.PermissionDenied, codes.Unauthenticated:
		return fmt.Errorf("not allowed to set up Temporal namespace %q: have an administrator run `temporal operator namespace create --namespace %s --retention %s`", name, name, retention)
	default:
		return fmt.Errorf("setting up Temporal namespace %q failed (%s): check that the cluster is healthy and try again", name, code(err))
	}
}

// untilAccepted repeats call until it succeeds: every service of a cluster keeps its own copy of the namespaces and
// refreshes it every few seconds. Errors that waiting does not mend are returned at once.
func untilAccepted(ctx context.Context, call func(context.Context) error) error {
	wait := 20 * time.Millisecond
	for {
		err := call(ctx)
		if err == nil {
			return nil
		}
		switch code(err) {
		case codes.NotFound, codes.InvalidArgument, codes.Unavailable, codes.ResourceExhausted:
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster has not taken the change over in time (%s): try again", code(err))
		case <-time.After(wait):
		}
		wait = min(2*wait, 500*time.Millisecond)
	}
}
