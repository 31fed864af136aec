package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"rekey/internal/view"
)

// Bounds of one conversation with the server.
const (
	// maxAnswer is more than a page of items of the largest incident.
	maxAnswer = 64 << 20
	// maxBundle bounds an exported bundle; it is written to a file as it comes.
	maxBundle = 8 << 30
	// tries of a reading call: a server that restarts is back within seconds.
	tries = 4
)

// client speaks the HTTP API of package api. Reading calls are repeated on a
// lost connection or a 502, 503 or 504; calls that decide are made once.
type client struct {
	base  *url.URL
	token string
	http  *http.Client
	pause func(ctx context.Context, attempt int) error
}

// newClient makes a client of the server at address. The token goes to that host
// only and never in clear over a network.
func newClient(address, token string, roots *tlsRoots) (*client, error) {
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, Usage("write it as http://127.0.0.1:8443 or https://rekey.example.com", "the server's address is not a URL")
	}
	if base.User != nil {
		return nil, Usage("take the user and password out of it; the token is read from the data directory", "the server's address holds credentials")
	}
	if base.Scheme == "http" && !isLoopback(base.Hostname()) {
		return nil, Usage("use https, or a tunnel to this machine", "the token would go over the network in clear to %s", base.Host)
	}
	transport := &http.Transport{
		Proxy:                 proxyExceptLoopback,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: deadline,
		MaxIdleConns:          4,
		ForceAttemptHTTP2:     true,
	}
	if roots != nil {
		transport.TLSClientConfig = roots.config()
	}
	return &client{
		base: base, token: token, pause: pause,
		http: &http.Client{
			Transport: transport,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse // the API never redirects
			},
		},
	}, nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func proxyExceptLoopback(r *http.Request) (*url.URL, error) {
	if isLoopback(r.URL.Hostname()) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

func pause(ctx context.Context, attempt int) error {
	t := time.NewTimer(200 * time.Millisecond << attempt)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// get reads path into out and gives the raw answer too.
func (c *client) get(ctx context.Context, path string, query url.Values, out any) (json.RawMessage, error) {
	for attempt := 0; ; attempt++ {
		raw, err := c.once(ctx, http.MethodGet, path, query, nil, out)
		var gone *Error
		again := errors.As(err, &gone) && gone.again
		if !again || attempt == tries-1 || ctx.Err() != nil {
			return raw, err
		}
		if c.pause(ctx, attempt) != nil {
			return nil, err
		}
	}
}

// post sends in once and reads the answer into out.
func (c *client) post(ctx context.Context, path string, in, out any) (json.RawMessage, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	return c.once(ctx, http.MethodPost, path, nil, body, out)
}

func (c *client) once(ctx context.Context, method, path string, query url.Values, body []byte, out any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	resp, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, c.lost(method)
	}
	if len(raw) > maxAnswer {
		return nil, Failed(CodeFailed, "ask for a smaller part, such as `rekey incident items`", "the server's answer is larger than %d MiB", maxAnswer>>20)
	}
	if err := refusal(resp.StatusCode, raw, c.base); err != nil {
		return nil, err
	}
	if !json.Valid(raw) || json.Unmarshal(raw, out) != nil {
		return nil, Failed(CodeFailed, "is that address rekey's, and of this version?", "%s did not answer as rekey does", c.base.Host)
	}
	return raw, nil
}

// download opens path for reading; the caller closes it.
func (c *client) download(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer func() { _ = resp.Body.Close() }()
		raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return nil, c.lost(http.MethodGet)
		}
		return nil, refusal(resp.StatusCode, raw, c.base)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxBundle), resp.Body}, nil
}

func (c *client) send(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Response, error) {
	u := c.base.JoinPath("/api/v1" + path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("User-Agent", "rekey-cli")
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if dialed := new(net.OpError); errors.As(err, &dialed) && dialed.Op == "dial" {
			return nil, c.unreachable()
		}
		if errors.Is(err, context.Canceled) {
			return nil, context.Canceled
		}
		return nil, c.lost(method)
	}
	return resp, nil
}

func (c *client) unreachable() error {
	do := "start it with `rekey up`"
	if !isLoopback(c.base.Hostname()) {
		do = "is `rekey serve` up there, and is the network?"
	}
	return &Error{Code: CodeUnreachable, Message: "rekey is not running at " + c.base.Host, Do: do, again: true}
}

// lost is a call without an answer. One that decides may have been heard.
func (c *client) lost(method string) error {
	if method == http.MethodGet {
		return &Error{Code: CodeUnreachable, Message: "the connection to " + c.base.Host + " broke", Do: "try again; `rekey doctor` looks for the reason", again: true}
	}
	return Failed(CodeUnreachable, "it may have been accepted: look with `rekey incident list` and `rekey incident show` before you repeat it", "no answer from %s", c.base.Host)
}

// refusal turns an answer that is not a success into an error.
func refusal(status int, raw []byte, base *url.URL) error {
	if status >= 200 && status < 300 {
		return nil
	}
	var doc view.Error
	if json.Unmarshal(raw, &doc) != nil || doc.Error.Code == "" {
		doc.Error = view.ErrorBody{Code: CodeFailed, Message: fmt.Sprintf("%s answered %d %s", base.Host, status, http.StatusText(status))}
	}
	e := &Error{Code: doc.Error.Code, Message: doc.Error.Message, Do: doc.Error.Do}
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		e.Usage = true
	case http.StatusUnauthorized:
		if e.Do == "" {
			e.Do = "does --data name the data directory of that server? Its cli-token is what lets you in"
		}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.again = true
	}
	return e
}
