package worker

import (
	"context"
	"errors"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"rekey/activities"
	"rekey/internal/secret/redact"
)

// faults turns failures into Temporal's terms, in this one place. What a provider
// classed keeps its class; anything else is our own error, and goes on as a text
// that passed the redactor. No cause is wrapped: causes carry vendors' text.
type faults struct {
	interceptor.WorkerInterceptorBase
	redact *redact.Redactor
}

func (f *faults) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	i := &faultsInbound{redact: f.redact}
	i.Next = next
	return i
}

type faultsInbound struct {
	interceptor.ActivityInboundInterceptorBase
	redact *redact.Redactor
}

func (i *faultsInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	res, err := i.Next.ExecuteActivity(ctx, in)
	if err == nil || errors.Is(err, context.Canceled) {
		return res, err
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) || temporal.IsCanceledError(err) {
		return res, err
	}
	var f *activities.Fault
	if errors.As(err, &f) {
		return res, temporal.NewApplicationErrorWithOptions(f.Error(), string(f.Class), temporal.ApplicationErrorOptions{
			NonRetryable: !f.Retryable(), NextRetryDelay: f.After,
		})
	}
	return res, temporal.NewApplicationErrorWithOptions(i.redact.String(err.Error()), "engine", temporal.ApplicationErrorOptions{})
}
