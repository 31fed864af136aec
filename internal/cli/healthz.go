package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"rekey/internal/view"
)

// healthLimit bounds the look at a process: shorter than what container engines and
// load balancers wait.
const healthLimit = 9 * time.Second

// healthzCommand is for images without a shell: the program asks itself.
func (a *app) healthzCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "healthz",
		Short: "Ask a running rekey whether it is well; exit code 0 or 1",
		Long: `healthz asks /healthz of the rekey that this configuration describes, at
listen.metrics. With --url it asks another address, such as /readyz, which tells
whether work that is sent to it now would be done. Made for the health checks of
containers, where there is no curl.`,
		Example: example("rekey healthz", "rekey healthz --url http://127.0.0.1:9464/readyz"),
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if address == "" {
				s, err := a.settings()
				if err != nil {
					return err
				}
				address = "http://" + s.Listen.Metrics + "/healthz"
			}
			u, err := url.Parse(address)
			if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil {
				return Usage("write it as http://127.0.0.1:9464/readyz", "--url is not a URL to ask")
			}
			return a.askHealth(cmd, u)
		},
	}
	cmd.Flags().StringVar(&address, "url", "", "URL to ask (default: /healthz at listen.metrics)")
	return cmd
}

func (a *app) askHealth(cmd *cobra.Command, u *url.URL) error {
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, u.String(), nil)
	if err != nil {
		return Usage("write it as http://127.0.0.1:9464/readyz", "--url is not a URL to ask")
	}
	c := &http.Client{
		Timeout: healthLimit, Transport: &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := c.Do(req)
	if err != nil {
		return &Error{Code: CodeUnreachable, Message: "nothing answers at " + u.Host, Do: "is rekey running, and is listen.metrics of its configuration that address?", Err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode == http.StatusOK {
		if a.asJSON {
			writeJSON(a.io.Out, map[string]string{"status": "ok"})
			return nil
		}
		fmt.Fprintln(a.io.Out, "ok")
		return nil
	}
	var e view.Error
	if json.Unmarshal(body, &e) != nil || e.Error.Message == "" {
		return Failed("not-well", "look at its log", "%s answered %d", u.Host, resp.StatusCode)
	}
	return Failed(e.Error.Code, e.Error.Do, "%s", e.Error.Message)
}
