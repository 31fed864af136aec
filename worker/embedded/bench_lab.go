package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"rekey/internal/lab"
	"rekey/internal/lab/scenario"
)

// maxBenchBody bounds a request to the lab; the largest is a policy.
const maxBenchBody = 1 << 20

// A benchLab is a lab whose provider is reached through a door that notes when
// the call that disables a key arrives, on the clock of this process.
type benchLab struct {
	server  *lab.Server
	account string
	url     string // of the door
	items   int    // keys of one incident
	ids     []string
	arrived map[string]chan time.Time
	door    *http.Server
	running []chan error
}

// start plays items keys for each incident, each of its own user, until ctx ends.
func (l *benchLab) start(ctx context.Context, dir string, incidents int) error {
	text := fmt.Sprintf(`apiVersion: rekey/v1
kind: Drill
name: bench
seed: 1
clock: {mode: real}
estate:
  providers: {awsiam/lab: {propagation: 1s}}
  keys: [{id: bystander, user: bystander, policy: ReadOnlyAccess}]
  generate: [{kind: key, count: %d, id: "bench-{n}", user: "bench-{n}"}]
trigger: {at: T0, report: {provider: awsiam, kind: user-access-key, key: bystander, source: aws, confidence: confirmed}}
expect: [{id: bystander, expr: 'lab.keys.exists(k, k.alias == "bystander" && k.state == "active")'}]
`, incidents*l.items)
	d, err := scenario.Load("bench.yaml", []byte(text))
	if err != nil {
		return err
	}
	if l.server, err = lab.New(lab.Options{Dir: dir, Scenario: d}); err != nil {
		return err
	}
	l.run(func() error { return l.server.Run(ctx) })
	info, err := l.server.Client().Info(ctx)
	if err != nil {
		return err
	}
	l.account = info.Account
	for n := range incidents * l.items {
		l.ids = append(l.ids, info.Aliases[fmt.Sprintf("bench-%d", n+1)])
	}
	l.arrived = map[string]chan time.Time{}
	for n := range incidents {
		l.arrived[l.reported(n)] = make(chan time.Time, 1)
	}
	return l.open(ctx, info.BaseURL)
}

func (l *benchLab) run(serve func() error) {
	ended := make(chan error, 1)
	l.running = append(l.running, ended)
	go func() { ended <- serve() }()
}

func (l *benchLab) open(ctx context.Context, behind string) error {
	target, err := url.Parse(behind)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		// The host is signed with the request (SigV4): it goes on as it came.
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target); p.Out.Host = p.In.Host },
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l.url = "http://" + listener.Addr().String()
	l.door = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBenchBody))
		if err != nil {
			http.Error(w, "cut off", http.StatusBadRequest)
			return
		}
		l.note(at, body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	})}
	l.run(func() error {
		if err := l.door.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// note takes the time of the first call that disables a key.
func (l *benchLab) note(at time.Time, body []byte) {
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("Action") != "UpdateAccessKey" || form.Get("Status") != "Inactive" {
		return
	}
	if ch, ok := l.arrived[form.Get("AccessKeyId")]; ok {
		select {
		case ch <- at:
		default: // a second call; the first one counts
		}
	}
}

// stop ends the door and waits for the lab, which ends with its context.
func (l *benchLab) stop() error {
	var errs []error
	if l.door != nil {
		errs = append(errs, l.door.Close())
	}
	for _, ended := range l.running {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// reported is the key that report n names.
func (l *benchLab) reported(n int) string { return l.ids[n*l.items] }

// contained gives the time of the containment call of a key, once.
func (l *benchLab) contained(key string) <-chan time.Time { return l.arrived[key] }

// estate is what rekey is told: every key has an owner and a dependent that bears
// a short outage; the keys of one incident are kept at one place. A plan for them
// asks for votes, so that an incident comes to rest after its first call.
func (l *benchLab) estate() string {
	var keys, copies, dependents strings.Builder
	for i, id := range l.ids {
		n := i / l.items
		fmt.Fprintf(&keys, "  - {id: %s, provider: awsiam, account: %s, kind: user-access-key, owner: bench}\n", id, accountName(n))
		fmt.Fprintf(&copies, "  - {key: %s, where: host/bench-%d, registered: true}\n", id, n)
		fmt.Fprintf(&dependents, "  - {id: app-%d, keys: [%s], owner: bench, outage_budget: 30m, cutover: dual, proof: last-used}\n", i, id)
	}
	return "keys:\n" + keys.String() + "copies:\n" + copies.String() + "dependents:\n" + dependents.String()
}
