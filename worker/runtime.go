// Package worker wires configuration, keys, stores, providers and workflows into
// the parts that run: the Temporal worker and the HTTP server. It decides nothing.
// The embedded Temporal server is in worker/embedded, so that only the binary links
// it.
package worker

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.temporal.io/sdk/converter"

	"rekey/activities"
	"rekey/activities/all"
	"rekey/activities/batch"
	"rekey/internal/audit"
	"rekey/internal/blob"
	"rekey/internal/codec"
	"rekey/internal/codec/keyring"
	"rekey/internal/config"
	"rekey/internal/estate"
	"rekey/internal/fsx"
	"rekey/internal/health"
	"rekey/internal/intake"
	"rekey/internal/lab/control"
	"rekey/internal/metrics"
	"rekey/internal/people"
	"rekey/internal/secret"
	"rekey/internal/secret/agestore"
	"rekey/internal/secret/installation"
	"rekey/internal/secret/redact"
	"rekey/internal/trace"
	"rekey/workflows"
)

// A Runtime is everything that does not need Temporal: keys, stores, providers.
type Runtime struct {
	Config  *config.Config
	Voters  people.Voters
	Finger  *secret.Fingerprinter
	Sealed  secret.Store
	Blobs   blob.Collectable
	Keys    *keyring.Keyring
	Signer  *audit.Signer
	Estate  *estate.Estate
	Redact  *redact.Redactor
	Log     *slog.Logger
	Metrics *metrics.Set
	Health  *health.Checks
	Lab     *control.Client // nil outside of a lab
	Epoch   string
	build   string // under which workers register; empty: without a version
	server  ed25519.PrivateKey
	trace   *trace.Tracer // nil: no traces
	drain   time.Duration // between not being ready and taking no requests
	all     *all.Registry
	mu      sync.Mutex
	clients map[string]any
	leases  *leases // nil where the data directory's lock is the lease
	labMu   sync.Mutex
	labNow  time.Time
}

// Lab mode is told by the environment, set by the drill driver and `up --lab`;
// nothing in rekey.yaml can switch it on.
const (
	envVirtual = "REKEY_LAB_VIRTUAL" // "1": waits go by the lab's clock
	envOff     = "REKEY_LAB_OFF"     // rules switched off, by comma
	// envPropagation is how fast this lab propagates ("1s"), where a test must not
	// wait as long as for the real provider.
	envPropagation = "REKEY_LAB_PROPAGATION"
	// envQuiet: this lab wants to hear of no edge of a call and has no clock of its own:
	// what is measured is rekey, and not its talk with the lab.
	envQuiet = "REKEY_LAB_QUIET"
)

// Open reads keys and opens stores below cfg.Data, making what is missing when own
// is set (a process that owns the installation).
func Open(cfg *config.Config, log *slog.Logger, own bool) (*Runtime, error) {
	r := &Runtime{
		Config: cfg, Log: log, Metrics: metrics.New(metrics.Options{Version: Version()}), Health: &health.Checks{},
		Lab: control.FromEnv(), clients: map[string]any{}}
	for _, d := range []string{"", "keys", "blobs", "sealed", "bundles"} {
		err := fsx.MkdirPrivate(filepath.Join(cfg.Data, d))
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			return nil, fmt.Errorf("the data directory %s cannot be made or written by this user: name another one by `data:` in rekey.yaml or --data, or mount a volume there: %w", cfg.Data, err)
		}
		if err != nil {
			return nil, err
		}
	}
	raw := make([]byte, 8)
	_, _ = rand.Read(raw)
	r.Epoch = hex.EncodeToString(raw)
	var err error
	if r.all, err = all.Default(); err != nil {
		return nil, err
	}
	if r.Redact, err = r.redactor(); err != nil {
		return nil, err
	}
	r.Log = slog.New(r.Redact.Handler(log.Handler()))
	if r.Finger, err = installation.Load(installationKey(cfg.Data)); err != nil {
		return nil, err
	}
	dir := cfg.Codec.KeysDir
	if dir == "" {
		dir = filepath.Join(cfg.Data, "keys", "codec")
	}
	if r.Keys, err = keyring.Open(keyring.Options{Dir: dir, Current: cfg.Codec.Current, Create: own, Now: time.Now}); err != nil {
		return nil, err
	}
	if r.Sealed, err = r.openSealed(); err != nil {
		return nil, err
	}
	if r.Blobs, err = openBlobs(cfg, r.Keys, r.Finger); err != nil {
		return nil, err
	}
	if r.Voters, err = people.Pinned(cfg, cfg.Data); err != nil {
		return nil, err
	}
	if r.server, err = people.LoadOrCreate(people.ServerKeyFile(cfg.Data)); err != nil {
		return nil, err
	}
	keys := filepath.Join(cfg.Data, "keys", "audit")
	if cfg.Audit.KeyFile != "" {
		keys = filepath.Dir(cfg.Audit.KeyFile)
	}
	if err := fsx.MkdirPrivate(keys); err != nil {
		return nil, err
	}
	if r.Signer, err = audit.LoadOrCreateSigner(keys, cfg.Audit.Origin); err != nil {
		return nil, err
	}
	if r.Estate, err = estate.Load(cfg.Estate.Files, cfg.Customers.Files, r.Finger); err != nil {
		return nil, err
	}
	err = r.keepCustomers()
	return r, err
}

func (r *Runtime) openSealed() (secret.Store, error) {
	path := r.Config.Sealed.IdentityFile
	if path == "" {
		path = filepath.Join(r.Config.Data, "keys", "age.txt")
	}
	var pass secret.Value
	if f := r.Config.Sealed.PassphraseFile; f != "" {
		var err error
		if pass, err = agestore.ReadPassphrase(f); err != nil {
			return nil, err
		}
		defer pass.Destroy()
	}
	id, err := agestore.LoadIdentity(path, pass)
	if err != nil {
		return nil, err
	}
	return agestore.Open(agestore.Options{
		Dir: filepath.Join(r.Config.Data, "sealed"), Identity: id, Now: time.Now,
		OnRead: func(rec secret.ReadRecord) {
			r.Metrics.SecretRead(string(rec.Purpose))
			r.Log.Info("sealed secret read", "incident", rec.Ref.Incident, "handle", rec.Ref.Handle, "purpose", rec.Purpose, "granted", rec.Granted, "why", rec.Why)
		},
	})
}

func (r *Runtime) redactor() (*redact.Redactor, error) {
	patterns, err := intake.Patterns(r.Descriptors())
	if err != nil {
		return nil, err
	}
	return redact.New(redact.Options{Patterns: append(redact.Generic(), patterns...)})
}

// Descriptors are those of all providers of this build.
func (r *Runtime) Descriptors() []activities.Descriptor {
	var out []activities.Descriptor
	for _, p := range r.all.Providers() {
		out = append(out, r.here(p.Descriptor))
	}
	return out
}

// here is a descriptor as it holds where this runtime is: in a lab that says so,
// with the lab's propagation.
func (r *Runtime) here(d activities.Descriptor) activities.Descriptor {
	lab, err := time.ParseDuration(os.Getenv(envPropagation))
	if r.Lab == nil || err != nil || lab < 0 {
		return d
	}
	d.Kinds = slices.Clone(d.Kinds)
	for i := range d.Kinds {
		d.Kinds[i].Propagation = min(d.Kinds[i].Propagation, lab)
	}
	return d
}

// Client gives the client of a configured account, opened once.
func (r *Runtime) Client(provider, account string) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := provider + "/" + account
	if c, ok := r.clients[key]; ok {
		return c, nil
	}
	p, ok := r.all.Lookup(provider)
	if !ok {
		return nil, fmt.Errorf("no provider %q in this build", provider)
	}
	a, err := r.Config.Account(provider, account)
	if err != nil {
		return nil, err
	}
	if r.Lab != nil && !a.AllowPrivate {
		return nil, errors.New("a lab only calls accounts with allow_private: this one would reach a real provider")
	}
	c, err := p.Open(a, activities.Deps{Secrets: r.Sealed, HTTP: r.gated(provider, account), Now: r.Now, Agent: "rekey/1"})
	if err != nil {
		return nil, err
	}
	r.clients[key] = c
	return c, nil
}

// Kind finds what a provider promises of a kind.
func (r *Runtime) Kind(provider, kind string) (activities.KindInfo, bool) {
	p, ok := r.all.Lookup(provider)
	if !ok {
		return activities.KindInfo{}, false
	}
	return r.here(p.Descriptor).Kind(kind)
}

// Now is the world's clock: the lab's in a lab. When the lab does not answer, time
// stands still rather than jump to the wall clock's.
func (r *Runtime) Now(ctx context.Context) time.Time {
	if r.Lab == nil || (r.quiet() && !r.Virtual()) {
		return time.Now().UTC()
	}
	now, err := r.Lab.WorldNow(ctx)
	r.labMu.Lock()
	defer r.labMu.Unlock()
	if err == nil && now.After(r.labNow) {
		r.labNow = now
	}
	return r.labNow
}

func (r *Runtime) quiet() bool { return os.Getenv(envQuiet) == "1" }

// Virtual tells whether waits go by the lab's clock.
func (r *Runtime) Virtual() bool { return r.Lab != nil && os.Getenv(envVirtual) == "1" }

// Off are the rules that a drill's control switched off.
func (r *Runtime) Off() []string {
	if v := os.Getenv(envOff); r.Lab != nil && v != "" {
		return strings.Split(v, ",")
	}
	return nil
}

// Namespace is where workflows run; drills have their own.
func (r *Runtime) Namespace() string {
	if r.Lab != nil {
		return "rekey-drill"
	}
	return r.Config.Temporal.Namespace
}

// DataConverter encrypts every payload.
func (r *Runtime) DataConverter() converter.DataConverter { return codec.NewDataConverter(r.Keys) }

// limits are the budgets per second by "provider/account/api": the descriptor's,
// lowered by the configuration.
func (r *Runtime) limits() *batch.Limits { return batch.NewLimits(r.rates()) }

// rates are the budgets of the configured accounts, in calls a second by
// provider/account/api.
func (r *Runtime) rates() map[string]float64 {
	out := map[string]float64{}
	for _, d := range r.Descriptors() {
		for _, account := range r.Config.Accounts(d.Code) {
			lower := func(api string, v float64) {
				key := d.Code + "/" + account + "/" + api
				if old, ok := out[key]; !ok || v < old {
					out[key] = v
				}
			}
			for _, l := range d.Limits {
				// The lab keeps its own limits, in the world's time.
				if l.Value > 0 && r.Lab == nil {
					lower(l.API, l.Value)
				}
			}
			for api, rate := range r.Config.Providers[d.Code][account].Rate {
				n, per, err := rate.Parse()
				if err != nil {
					continue // the configuration was checked; a rate is never raised by a bad one
				}
				v := float64(n) / per.Seconds()
				lower(api, v)
				for _, l := range d.Limits {
					if strings.HasPrefix(l.API, api+":") { // "cloudtrail" bounds "cloudtrail:LookupEvents"
						lower(l.API, v)
					}
				}
			}
		}
	}
	return out
}

// origin says where a secret of an account may be sent.
func (r *Runtime) origin(provider string, a activities.Account) (string, error) {
	p, ok := r.all.Lookup(provider)
	if !ok || p.Origin == nil {
		return "", fmt.Errorf("no provider %q in this build takes secrets", provider)
	}
	return p.Origin(a)
}

// edge tells the lab where a call stands, so that a drill can kill the worker
// there.
func (r *Runtime) edge() func(context.Context, string, activities.Verb, activities.Key) {
	if r.Lab == nil || r.quiet() {
		return nil
	}
	return func(ctx context.Context, edge string, v activities.Verb, key activities.Key) {
		if err := r.Lab.Hook(ctx, control.Edge{Verb: string(v), Edge: edge, Key: key.ID}); err != nil {
			r.Log.Warn("the lab did not take an edge", "edge", edge, "verb", string(v))
		}
	}
}

// kinds are the facts of all kinds that workflows need.
func (r *Runtime) kinds() map[string]workflows.KindFacts {
	return intake.Kinds(r.Config, r.Descriptors())
}

func installationKey(data string) string { return filepath.Join(data, "keys", "installation.key") }
