package control

import (
	"bytes"
	"context"
	"encoding/json"

	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Client speaks to one lab. The zero value is not usable; a nil *Client is the lab that is not
// there: Hook then does nothing.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// New makes a client for a control URL and token.
func New(base, token string) *Client {
	return &Client{base: strings.TrimRight(base, "/"), token: token, http: &http.Client{}}
}

// FromEnv gives the client for the lab named by REKEY_LAB_CONTROL and REKEY_LAB_CONTROL_TOKEN, or
// nil where none is named.
func FromEnv() *Client {
	if os.Getenv(EnvURL) == "" {
		return nil
	}
	return New(os.Getenv(EnvURL), os.Getenv(EnvToken))
}

// maxAnswer bounds an answer; an oracle of a large drill is the largest.
const maxAnswer = 256 << 20

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("lab control %s %s: %w", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		var answer struct {
			Error string `json:"error"`
		}
		_ = json.NewDecoder(io.LimitReader(resp.Body, 4096)).Decode(&answer)
		return fmt.Errorf("lab control %s %s: %d %s", method, path, resp.StatusCode, answer.Error)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out)
}

// Now gives world time and the next thing the world will do by itself.
func (c *Client) Now(ctx context.Context) (Clock, error) {
	var out Clock
	return out, c.do(ctx, http.MethodGet, "/lab/clock", nil, &out)
}

// MoveTo moves a virtual clock to a time; everything the world does until then is done when it
// returns. Moving to a time that is not after now does nothing.
func (c *Client) MoveTo(ctx context.Context, to time.Time) (Clock, error) {
	var out Clock
	return out, c.do(ctx, http.MethodPost, "/lab/clock", SetClock{To: &Time{to}}, &out)
}

// Advance moves a virtual clock by a span.
func (c *Client) Advance(ctx context.Context, d time.Duration) (Clock, error) {
	var out Clock
	return out, c.do(ctx, http.MethodPost, "/lab/clock", SetClock{AdvanceMS: d.Milliseconds()}, &out)
}

// Oracle gives the truth about the world.
func (c *Client) Oracle(ctx context.Context) (Oracle, error) {
	var out Oracle
	return out, c.do(ctx, http.MethodGet, "/lab/oracle", nil, &out)
}

// Ledger counts what the engine did.
func (c *Client) Ledger(ctx context.Context) (Ledger, error) {
	var out Ledger
	return out, c.do(ctx, http.MethodGet, "/lab/ledger", nil, &out)
}

// Key tells what took effect on one key, by scenario id or provider key id.
func (c *Client) Key(ctx context.Context, name string) (KeyLedger, error) {
	var out KeyLedger
	return out, c.do(ctx, http.MethodGet, "/lab/key/"+url.PathEscape(name), nil, &out)
}

// Info says where the lab is and what the scenario's names mean there.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var out Info
	return out, c.do(ctx, http.MethodGet, "/lab/info", nil, &out)
}

// Secret fetches a credential by scenario id or provider key id. The drill driver feeds it to
// `rekey report --secret-stdin`.
func (c *Client) Secret(ctx context.Context, alias string) (Secret, error) {
	var out Secret
	return out, c.do(ctx, http.MethodGet, "/lab/secret/"+url.PathEscape(alias), nil, &out)
}

// Register names the process that worker-kill strikes. The engine calls it at start.
func (c *Client) Register(ctx context.Context, pid int) error {
	return c.RegisterAs(ctx, RoleEngine, pid)
}

// RegisterAs names the process that an armed kill strikes by a role.
func (c *Client) RegisterAs(ctx context.Context, role string, pid int) error {
	return c.do(ctx, http.MethodPost, "/lab/engine", Engine{PID: pid, Role: role}, nil)
}

// Arm asks for one more kill.
func (c *Client) Arm(ctx context.Context, a Arm) error {
	return c.do(ctx, http.MethodPost, "/lab/arm", a, nil)
}

// Disarm takes back every armed kill that has not struck, and tells how many there were.
func (c *Client) Disarm(ctx context.Context) (int, error) {
	var out struct {
		Armed int `json:"armed"`
	}
	return out.Armed, c.do(ctx, http.MethodDelete, "/lab/arm", nil, &out)
}

// EnterPhase tells the lab that the incident entered a phase.
func (c *Client) EnterPhase(ctx context.Context, phase string) error {
	return c.do(ctx, http.MethodPost, "/lab/phase", Phase{Phase: phase}, nil)
}

// Restart restarts a dependent, which then reads its store.
func (c *Client) Restart(ctx context.Context, dependent string) error {
	return c.do(ctx, http.MethodPost, "/lab/dependents/"+url.PathEscape(dependent)+"/restart", nil, nil)
}

// Act makes a call at the provider as a person would, with an administrator's rights.
func (c *Client) Act(ctx context.Context, a Act) error {
	return c.do(ctx, http.MethodPost, "/lab/act", a, nil)
}

// Hook tells the lab that the engine stands at an edge of a call. Where a drill has worker-kill
// at this edge the process is killed here and Hook never returns. A nil client returns at once.
func (c *Client) Hook(ctx context.Context, e Edge) error {
	if c == nil {
		return nil
	}
	return c.do(ctx, http.MethodPost, "/lab/edge", e, nil)
}

// WorldNow gives world time alone; on a nil client wall time.
func (c *Client) WorldNow(ctx context.Context) (time.Time, error) {
	if c == nil {
		return time.Now().UTC(), nil
	}
	clock, err := c.Now(ctx)
	return clock.Now.Time, err
}
