package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"rekey/internal/people"
	"rekey/internal/view"
)

// api is rekey's HTTP API as the people of a drill use it.
type caller struct {
	base string
	data string
	http *http.Client
}

func newAPI(address, data string) *caller {
	return &caller{base: "http://" + address, data: data, http: &http.Client{Timeout: 30 * time.Second}}
}

// A refusedError is a no with its code.
type refusedError struct{ body view.ErrorBody }

func (e *refusedError) Error() string { return e.body.Code + ": " + e.body.Message }

func (a *caller) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return err
	}
	token, err := people.ReadToken(a.data)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	const most = 512 << 20
	b, err := io.ReadAll(io.LimitReader(res.Body, most))
	if err != nil {
		return err
	}
	if res.StatusCode >= http.StatusBadRequest {
		var e view.Error
		if json.Unmarshal(b, &e) == nil && e.Error.Code != "" && res.StatusCode < http.StatusInternalServerError {
			return &refusedError{e.Error}
		}
		return fmt.Errorf("%s %s: status %d", method, path, res.StatusCode)
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*out = b
		return nil
	default:
		return json.Unmarshal(b, out)
	}
}

func (a *caller) ready(ctx context.Context) bool {
	return a.do(ctx, http.MethodGet, "/readyz", nil, nil) == nil
}

func (a *caller) show(ctx context.Context, id string) (v view.Incident, err error) {
	return v, a.do(ctx, http.MethodGet, "/api/v1/incidents/"+id, nil, &v)
}

func refused(err error) (view.ErrorBody, bool) {
	var r *refusedError
	if errors.As(err, &r) {
		return r.body, true
	}
	return view.ErrorBody{}, false
}
