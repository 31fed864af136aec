package metrics

import (
	"fmt"

	"go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
)

// Temporal gives the Temporal SDK a place for its own metrics, beside rekey's:
// temporal_request_latency_seconds, temporal_worker_task_slots_available and the
// others of https://docs.temporal.io/references/sdk-metrics. Their labels are task
// queue, namespace, type names and operations.
func (s *Set) Temporal() (client.MetricsHandler, error) {
	if s == nil {
		return client.MetricsNopHandler, nil
	}
	exp, err := prometheus.New(prometheus.WithRegisterer(s.registry), prometheus.WithoutScopeInfo(), prometheus.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("metrics of the Temporal SDK: %w", err)
	}
	// The SDK's timers are in seconds, OpenTelemetry's own bounds are for milliseconds.
	seconds := sdkmetric.NewView(sdkmetric.Instrument{Kind: sdkmetric.InstrumentKindHistogram}, sdkmetric.Stream{
		Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: []float64{0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 600, 3600, 86400}},
	})
	p := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exp), sdkmetric.WithView(seconds))
	return opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter:                p.Meter("temporal-sdk-go"),
		UseMonotonicCounters: true,
		OnError:              func(error) {}, // a metric that cannot be made must not stop a worker
	}), nil
}
