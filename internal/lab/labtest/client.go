package labtest

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"
)

// Client gives the HTTP client for an SDK that talks to a lab.
//
// It hands the transport a body of its own. smithy-go closes the request body as soon as the
// answer's header is there (transport/http/client.go, ClientHandler.Handle); where the answer
// comes before the transport's write loop has finished, as it does on loopback, the loop reads
// the closed body, takes its EOF for a failed write and closes the connection under the answer:
// "use of closed network connection" in the middle of a long listing, in about 1 of 50 calls.
func Client(t testing.TB) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: ownBody{transport}, Timeout: 10 * time.Second}
}

type ownBody struct{ next http.RoundTripper }

func (o ownBody) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(data))
	}
	return o.next.RoundTrip(r)
}
