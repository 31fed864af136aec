package devserver

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"

	"rekey/internal/loopback"
)

const (
	clusterName = "active"

	// shards are fixed for the life of a database: with another number Temporal finds no workflow again. Four let
	// incidents proceed beside each other (16 at once to their first activity: p99 197 ms, with one shard 382 ms).
	shards = 4
)

// layout is where each service of one start listens.
type layout struct {
	frontend string // ip:port
	http     int    // the frontend's HTTP API, on the frontend's IP
	internal map[primitives.ServiceName]int
}

// newLayout picks the ports of everything but the frontend.
func newLayout(frontend string) (layout, error) {
	services := []primitives.ServiceName{
		primitives.HistoryService, primitives.MatchingService, primitives.WorkerService, primitives.InternalFrontendService,
	}
	ports, err := loopback.Ports(len(services) + 1)
	if err != nil {
		return layout{}, err
	}
	l := layout{frontend: frontend, http: ports[0], internal: map[primitives.ServiceName]int{}}
	for i, s := range services {
		l.internal[s] = ports[i+1]
	}
	return l, nil
}

func (l layout) hosts() map[primitives.ServiceName]static.Hosts {
	hosts := map[primitives.ServiceName]static.Hosts{primitives.FrontendService: static.SingleLocalHost(l.frontend)}
	for s, port := range l.internal {
		hosts[s] = static.SingleLocalHost(loopback.Address(port))
	}
	return hosts
}

func (l layout) services() (map[string]config.Service, error) {
	ip, text, err := net.SplitHostPort(l.frontend)
	if err != nil {
		return nil, fmt.Errorf("frontend address: %w", err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("frontend port: %w", err)
	}
	services := map[string]config.Service{
		// The HTTP port must be set: Temporal 1.32 panics in NewServer without it. It has the authorizer of the gRPC port.
		string(primitives.FrontendService): {RPC: config.RPC{GRPCPort: port, HTTPPort: l.http, BindOnIP: ip}},
	}
	for s, port := range l.internal {
		// No HTTP port for the internal frontend: Temporal would serve it without TLS and trust every caller.
		services[string(s)] = config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: "127.0.0.1"}}
	}
	return services, nil
}

// serverConfig is the static configuration of a single-process cluster on one SQLite file.
func serverConfig(l layout, database string) (*config.Config, error) {
	services, err := l.services()
	if err != nil {
		return nil, err
	}
	store := &config.SQL{
		PluginName:   sqliteplugin.PluginName,
		DatabaseName: sqlitePath(database),
		ConnectAttributes: map[string]string{
			"mode":         "rw",
			"journal_mode": "wal",
			// FULL: a committed transaction survives power loss (https://www.sqlite.org/pragma.html#pragma_synchronous).
			"synchronous": "2",
			// Temporal never closes a SQLite handle and shares it by its options. A start must not get the handle of an
			// earlier one, whose file may have been replaced since, so the options differ a little each time.
			"busy_timeout": strconv.Itoa(10_000 + rand.IntN(50_000)), //nolint:gosec // no secret: spreads load
		},
	}
	c := &config.Config{
		// Half of what Temporal gives its services to start (temporal/server_impl.go, startServices). Nothing is joined
		// here; its default of 15 s in all is not enough on a machine that works on twenty other things.
		Global: config.Global{Membership: config.Membership{MaxJoinDuration: servicesTimeout / 2}},
		Persistence: config.Persistence{
			DefaultStore:     sqliteplugin.PluginName,
			VisibilityStore:  sqliteplugin.PluginName,
			NumHistoryShards: shards,
			DataStores:       map[string]config.DataStore{sqliteplugin.PluginName: {SQL: store}},
		},
		// The cluster id is generated at the first start and kept in the database.
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: l.frontend},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services:            services,
		Archival: config.Archival{
			History:    config.HistoryArchival{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchival{State: config.ArchivalDisabled},
		},
		NamespaceDefaults: config.NamespaceDefaults{
			Archival: config.ArchivalNamespaceDefaults{
				History:    config.HistoryArchivalNamespaceDefaults{State: config.ArchivalDisabled},
				Visibility: config.VisibilityArchivalNamespaceDefaults{State: config.ArchivalDisabled},
			},
		},
	}
	return c, nil
}

const maxPollRPS = 1000

// startRefresh is how often the services reread the namespaces while a start is setting them up; normalRefresh later.
const (
	startRefresh  = 20 * time.Millisecond
	normalRefresh = 2 * time.Second
)

// dynamicConfig is what differs from Temporal's defaults, with the reason of each.
func dynamicConfig() *dynamicconfig.MemoryClient {
	c := dynamicconfig.NewMemoryClient()
	// Timers are otherwise up to one second late: fine for a fleet, not for a wait of 50 ms between two probes.
	c.OverrideSetting(dynamicconfig.TimerProcessorMaxTimeShift, 10*time.Millisecond)
	// The queue of a shard is read at most this often. At the default of 20, every hop of every workflow (start to first
	// workflow task, activity to next workflow task) waits up to 50 ms. An idle queue is not read.
	c.OverrideSetting(dynamicconfig.TransferProcessorMaxPollRPS, maxPollRPS)
	c.OverrideSetting(dynamicconfig.TimerProcessorMaxPollRPS, maxPollRPS)
	c.OverrideSetting(dynamicconfig.VisibilityProcessorMaxPollRPS, maxPollRPS)
	c.OverrideSetting(dynamicconfig.OutboundProcessorMaxPollRPS, maxPollRPS)
	// One partition: with four, a task may wait for a poller of another partition.
	c.OverrideSetting(dynamicconfig.MatchingNumTaskqueueReadPartitions, 1)
	c.OverrideSetting(dynamicconfig.MatchingNumTaskqueueWritePartitions, 1)
	// Limits meant to protect a shared cluster from one tenant. A storm of reports on one machine is bounded by the
	// disk; being refused for a rate it can carry would only delay containment.
	c.OverrideSetting(dynamicconfig.FrontendRPS, 20_000)
	c.OverrideSetting(dynamicconfig.FrontendMaxNamespaceRPSPerInstance, 20_000)
	c.OverrideSetting(dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance, 200)
	c.OverrideSetting(dynamicconfig.HistoryRPS, 20_000)
	// Nothing of this process calls home.
	c.OverrideSetting(dynamicconfig.EnableServerVersionCheck, false)
	c.OverrideSetting(dynamicconfig.NamespaceCacheRefreshInterval, startRefresh)
	return c
}
