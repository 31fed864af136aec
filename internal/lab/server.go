package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"rekey/internal/lab/awssim"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
)

// Options of a lab.
type Options struct {
	Dir           string          // state goes to Dir/lab; a lab that is there already resumes
	Scenario      *scenario.Drill // required
	Scale         int             // multiplies `generate`; 0 = 1
	Listen        string          // of the provider; default 127.0.0.1:0
	ControlListen string          // of the control API; default 127.0.0.1:0
	Logger        *slog.Logger
}

// Addrs says where a lab listens, as host:port.
type Addrs struct{ Provider, Control string }

// Server is a running lab.
type Server struct {
	w        *world
	token    string
	provider net.Listener
	control  net.Listener
	pidMu    sync.Mutex
	pids     map[string]int // by role
	lock     io.Closer
}

const (
	// AccountID is AWS's documentation account, used where the scenario names none.
	AccountID = "111122223333"
	region    = "us-east-1"
	maxBody   = 1 << 20
)

// New makes or resumes a lab and opens its listeners; Run serves them. Only loopback addresses
// are taken: a lab is not for the network.
func New(opt Options) (*Server, error) {
	if opt.Scenario == nil {
		return nil, errors.New("a lab needs a scenario")
	}
	if err := checkFaults(opt.Scenario); err != nil {
		return nil, err
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	dir := filepath.Join(opt.Dir, "lab")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, pids: map[string]int{}}
	if err := s.open(opt, dir); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *Server) open(opt Options, dir string) (err error) {
	if s.token, err = secretFile(filepath.Join(dir, control.TokenFile)); err != nil {
		return err
	}
	if s.w, err = openWorld(opt, dir); err != nil {
		return err
	}
	if s.provider, err = listen(opt.Listen); err != nil {
		return err
	}
	s.control, err = listen(opt.ControlListen)
	return err
}

func openWorld(opt Options, dir string) (*world, error) {
	salt, err := secretFile(filepath.Join(dir, "salt"))
	if err != nil {
		return nil, err
	}
	d := opt.Scenario
	w := &world{drill: d, scale: max(opt.Scale, 1), dir: dir, log: opt.Logger, seen: newObserver(), real: d.Clock.Mode == "real",
		t0: d.T0(time.Now().UTC().Truncate(time.Second))}
	w.st.Now = w.t0
	p := w.provider()
	account := p.AccountID
	if account == "" {
		account = AccountID
	}
	limits := map[string]awssim.Rate{}
	for api, r := range p.Limits {
		limits[api] = awssim.Rate{Count: r.Rate.Count, Per: r.Rate.Per, RetryAfter: r.RetryAfter.D(), Status: r.Status}
		if r.Status == 0 && r.RetryAfter > 0 {
			limits[api] = awssim.Rate{Count: r.Rate.Count, Per: r.Rate.Per, RetryAfter: r.RetryAfter.D(), Status: http.StatusTooManyRequests}
		}
	}
	w.sim = awssim.New(awssim.Options{Account: account, Region: region, Salt: []byte(fmt.Sprintf("%d/%s", d.Seed, salt)), Now: w.now,
		Propagation: w.propagation, KeysPerUser: p.Quotas.KeysPerUser, Limits: limits, Retention: d.Estate.Logs.Retention.D(), EngineIP: p.EngineIP,
		Journal: w, Hooks: awssim.Hooks{Inject: w.inject, KeepAlive: w.keepAlive, Skew: w.skew, LogGap: w.logGap}})
	w.sim.MarkEngine(engineUser)
	resumed, err := w.resume()
	if err != nil {
		return nil, fmt.Errorf("lab: cannot resume: %w", err)
	}
	if !resumed {
		// A first start that was killed half-way left files without a world.json: they are of no world.
		for _, name := range []string{"effects.jsonl", "trail.jsonl", snapshotFile, consumersFile} {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !os.IsNotExist(err) {
				return nil, err
			}
		}
		if w.trail, err = openLines(filepath.Join(dir, "trail.jsonl")); err != nil {
			return nil, err
		}
	}
	if w.effects, err = openLines(filepath.Join(dir, "effects.jsonl")); err != nil {
		return nil, err
	}
	if !resumed {
		if err := w.seed(); err != nil {
			return nil, err
		}
		if err := w.saveAliases(); err != nil {
			return nil, err
		}
	}
	w.plan()
	if err := w.flush(w.effects.size(), w.trail.size()); err != nil {
		return nil, err
	}
	return w, w.saveSnapshot()
}

func listen(addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("the lab listens on loopback only, not on %s", addr)
	}
	return net.Listen("tcp", addr)
}

// secretFile reads a 0600 file of random hex, making it on first use.
func secretFile(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err == nil && len(data) == 64 {
		return string(data), nil
	}
	if err != nil && !os.IsNotExist(err) {
		return "", err
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	text := hex.EncodeToString(raw)
	return text, replace(path, []byte(text), true)
}

// Addrs says where the lab listens.
func (s *Server) Addrs() Addrs {
	return Addrs{Provider: s.provider.Addr().String(), Control: s.control.Addr().String()}
}

// Token is the bearer token of the control API; it is also in Dir/lab/control-token.
func (s *Server) Token() string { return s.token }

// Client gives a control client for this lab.
func (s *Server) Client() *control.Client {
	return control.New("http://"+s.Addrs().Control, s.token)
}

// Engine gives the credentials rekey is to work with: an administrator's.
func (s *Server) Engine() control.Secret {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	secret, _, _ := s.w.sim.Secret(s.w.st.EngineKey)
	return control.Secret{KeyID: s.w.st.EngineKey, SecretKey: secret}
}

// Run serves until ctx ends, then writes a snapshot and closes everything.
func (s *Server) Run(ctx context.Context) error {
	servers := []*http.Server{
		{Handler: http.HandlerFunc(s.serveProvider), ReadHeaderTimeout: 10 * time.Second},
		{Handler: s.controlHandler(), ReadHeaderTimeout: 10 * time.Second},
	}
	errs := make(chan error, len(servers))
	for i, l := range []net.Listener{s.provider, s.control} {
		go func() { errs <- servers[i].Serve(l) }()
	}
	var err error
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for open := true; open; {
		select {
		case <-tick.C:
			if err = errors.Join(s.w.effects.sync(), s.w.trail.sync()); err != nil {
				open = false
			}
		case <-ctx.Done():
			open = false
		case err = <-errs:
			open = false
		}
	}
	for _, srv := range servers {
		err = errors.Join(err, srv.Close())
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, s.close())
}

func (s *Server) close() error {
	var err error
	for _, l := range []net.Listener{s.provider, s.control} {
		if l != nil {
			if cerr := l.Close(); !errors.Is(cerr, net.ErrClosed) {
				err = errors.Join(err, cerr)
			}
		}
	}
	if s.w != nil {
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		err = errors.Join(err, s.w.saveSnapshot(), s.w.stored.close(), s.w.trail.close(), s.w.effects.close())
	}
	return errors.Join(err, s.lock.Close())
}

// serveProvider is the simulated provider's HTTP side.
func (s *Server) serveProvider(rw http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		http.Error(rw, "body too large", http.StatusRequestEntityTooLarge)
		return
	}
	w := s.w
	in := w.sim.Read(awssim.Request{Request: r, Body: body, Wall: arrived})
	w.mu.Lock()
	w.settle()
	before := w.effects.size()
	resp := w.sim.Serve(in)
	if w.effects.size() != before {
		w.moveTo(w.st.Now) // a reaction may be due at once, where nothing propagates
	}
	err = w.failed
	if err == nil {
		err = w.save()
	}
	effects, trail := w.effects.size(), w.trail.size()
	w.mu.Unlock()
	if err == nil {
		err = w.flush(effects, trail)
	}
	if err != nil {
		http.Error(rw, "the lab cannot write its files", http.StatusInternalServerError)
		return
	}
	if resp.Latency > 0 {
		select {
		case <-time.After(resp.Latency):
		case <-r.Context().Done():
			return
		}
	}
	if resp.Drop {
		panic(http.ErrAbortHandler) // cuts the connection without an answer
	}
	resp.Write(rw)
}

// baseURL is what providers.awsiam.<account>.base_url is set to.
func (s *Server) baseURL() string { return "http://" + s.Addrs().Provider }

func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}
