package devserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/api"
	"github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/cors"
	"github.com/temporalio/ui-server/v2/server/csrf"
	"github.com/temporalio/ui-server/v2/server/headers"
	"github.com/temporalio/ui-server/v2/server/route"
	"github.com/temporalio/ui-server/v2/ui"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"rekey/internal/temporalx"
)

// uiServer is the Temporal UI, put together from the parts of ui-server instead of its NewServer, which
// can neither send a credential of its own nor take a listener, and ends the process when its port is taken.
type uiServer struct {
	http *http.Server
	conn *grpc.ClientConn
	url  string
}

// bearerToken sends the read-only token with every call of the UI's connection. It stays in this process: whoever wants
// its power has to go through the UI's listener.
type bearerToken string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearerToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials; the frontend is in this process.
func (bearerToken) RequireTransportSecurity() bool { return false }

// startUI serves the UI on l until stop. Calls go to the frontend with the read-only token.
func startUI(l net.Listener, frontend, token string, o Options) (*uiServer, error) {
	conn, err := grpc.NewClient(frontend,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(bearerToken(token)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)), // as ui-server: a page of history
	)
	if err != nil {
		return nil, fmt.Errorf("Temporal UI: %w", err)
	}
	handler, err := uiHandler(conn, o, hostCheck(l.Addr()))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("Temporal UI: %w", err), conn.Close())
	}
	s := &uiServer{
		conn: conn,
		url:  "http://" + l.Addr().String(),
		http: &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute},
	}
	go func() { _ = s.http.Serve(l) }() // returns at stop
	return s, nil
}

func uiHandler(conn *grpc.ClientConn, o Options, hosts func(string) bool) (http.Handler, error) {
	provider, err := config.NewConfigProviderWithRefresh(&config.Config{
		TemporalGRPCAddress: "in-process",
		EnableUI:            true,
		DefaultNamespace:    o.Namespaces[0],
		DisableNewsFetch:    true,
		DisableWriteActions: true,
		HideLogs:            true,
		CORS:                config.CORS{CookieInsecure: true}, // plain HTTP on loopback; no foreign origin is allowed
		Codec: config.Codec{
			Endpoint: o.CodecEndpoint, IncludeCredentials: o.CodecCredentials,
			DefaultErrorMessage: "Encrypted: open the link \"readable\" that rekey printed at its start; it works once, within 10 minutes",
		},
	})
	if err != nil {
		return nil, err
	}
	assets, err := ui.Assets()
	if err != nil {
		return nil, err
	}
	if assets, err = fs.Sub(assets, "local"); err != nil {
		return nil, err
	}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Pre(ownCredentialOnly(hosts))
	e.Use(middleware.Recover(), middleware.Gzip(), middleware.Secure(),
		cors.CORSMiddleware(cors.CORSConfig{ConfigProvider: provider}),
		csrf.EnsureTokenCookie(false), middleware.CSRFWithConfig(csrf.MiddlewareConfig(provider, false)))
	e.Pre(route.PublicPath(""))
	route.SetHealthRoute(e)

	// As route.SetAPIRoutes, on our connection.
	g := e.Group("/api/v1")
	noWrites := route.DisableWriteMiddleware(provider)
	g.GET("/settings", api.GetSettings(provider))
	g.GET(api.WorkflowRawHistoryUrl, api.WorkflowRawHistoryHandler(workflowservice.NewWorkflowServiceClient(conn)), noWrites)
	g.Match([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, "/*",
		api.TemporalAPIHandler(provider, []api.Middleware{headers.WithForwardHeaders([]string{"Caller-Type"})}, conn), noWrites)

	if err := route.SetUIRoutes(e, "", assets); err != nil {
		return nil, err
	}
	route.SetRenderRoute(e, "")
	return e, nil
}

// ownCredentialOnly drops what a browser could say about who it is, so that the UI always acts with its own read-only
// token, and refuses names that do not belong to this listener: a web page whose name was rebound to 127.0.0.1 would
// otherwise read histories (DNS rebinding).
func ownCredentialOnly(hosts func(string) bool) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			if !hosts(r.Host) {
				return echo.NewHTTPError(http.StatusMisdirectedRequest, "open the Temporal UI under the address rekey printed")
			}
			for name := range r.Header {
				lower := strings.ToLower(name)
				if strings.HasPrefix(lower, "authorization") || strings.HasPrefix(lower, "grpc-metadata-") {
					r.Header.Del(name)
				}
			}
			return next(c)
		}
	}
}

// hostCheck accepts the loopback names for a loopback listener. A listener open to a network (Options.AllowRemote) does
// not know its names, so there every one is accepted.
func hostCheck(addr net.Addr) func(host string) bool {
	if !temporalx.IsLoopback(addr.String()) {
		return func(string) bool { return true }
	}
	return temporalx.IsLoopback
}

// stop ends the listener and, after ctx, every open request.
func (s *uiServer) stop(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
	}
	return s.conn.Close()
}
