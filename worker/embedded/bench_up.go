package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"rekey/internal/cli"
	"rekey/worker"
)

// startLimit bounds one start of `rekey up`.
const startLimit = time.Minute

var apiLine = regexp.MustCompile(`^\s+API\s+(http://\S+)$`)

// measureUp starts this very program as `rekey up` again and again, from the exec
// to the first 200 of /readyz: first with a new data directory, then with the one
// that is there.
func measureUp(ctx context.Context, dir string) ([]cli.Figure, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "rekey.yaml"), []byte("data: ./data\n"), 0o600); err != nil {
		return nil, err
	}
	var first time.Duration
	var again worker.Timings
	for n := range benchStarts {
		took, err := oneUp(ctx, self, dir)
		if err != nil {
			return nil, fmt.Errorf("start %d of rekey up: %w", n+1, err)
		}
		if n == 0 {
			first = took
		} else {
			again = append(again, took)
		}
	}
	return []cli.Figure{
		{Name: "rekey up ready, new data directory", Value: worker.Ms(first), Unit: "ms", Budget: budgetUp, Note: "from exec to 200 of /readyz"},
		{Name: "rekey up ready, again, p50", Value: worker.Ms(again.Percentile(50)), Unit: "ms", Budget: budgetUp},
		{Name: "rekey up ready, again, max", Value: worker.Ms(again.Max()), Unit: "ms", Budget: budgetUp},
	}, nil
}

func oneUp(ctx context.Context, self, dir string) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "up", "--config", filepath.Join(dir, "rekey.yaml"), //nolint:gosec // our own binary
		"--listen-http", "127.0.0.1:0", "--listen-temporal", "127.0.0.1:0", "--listen-ui", "127.0.0.1:0", "--listen-metrics", "127.0.0.1:0")
	cmd.Dir = dir
	said, err := cmd.StderrPipe()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		// An interrupt as of Ctrl-C: `up` ends by itself and its directory is free.
		err = errors.Join(err, cmd.Process.Signal(syscall.SIGINT))
		var exit *exec.ExitError
		if werr := cmd.Wait(); werr != nil && !errors.As(werr, &exit) {
			err = errors.Join(err, werr)
		}
	}()
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if m := apiLine.FindStringSubmatch(lines.Text()); m != nil {
			if err := untilReady(ctx, m[1]+"/readyz"); err != nil {
				return 0, err
			}
			took = time.Since(began)
			go func() { // the pipe must not fill
				for lines.Scan() {
				}
			}()
			return took, nil
		}
	}
	return 0, errors.New("it ended before it was up: run `rekey up` to see why")
}

func untilReady(ctx context.Context, url string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
		if err == nil {
			if err := resp.Body.Close(); err != nil {
				return err
			}
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.New("it did not become ready")
		case <-time.After(5 * time.Millisecond):
		}
	}
}
