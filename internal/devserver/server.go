package devserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strings"
	"sync"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"

	"rekey/internal/temporalx"
)

const (
	// startTimeout bounds one start, servicesTimeout the part in which Temporal's services come up; a healthy start
	// takes well under 3 s in all.
	startTimeout    = 2 * time.Minute
	servicesTimeout = time.Minute
	// stopTimeout bounds Stop when its context has no deadline.
	stopTimeout = 10 * time.Second
	// listenAttempts: an internal port can be lost between picking it and binding to it.
	listenAttempts = 3
)

// Server is a running embedded Temporal server.
type Server struct {
	address string
	token   string
	uiToken string
	layout  layout
	fatal   *fatal

	temporal temporal.Server
	ui       *uiServer
	database string
	lock     *os.File
	log      io.Closer

	stopOnce sync.Once
	stopErr  error
}

// Start runs the server and the UI and returns when every namespace takes workflows and every search attribute of
// temporalx.SearchAttributes can be queried. It prints nothing. The data directory is held until Stop or the end of the
// process; whatever was running in it goes on. Errors say what is in the way (a taken port and the setting that moves
// it, the process that holds the data directory, a damaged database, a full disk) and leave nothing running.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	_, err = user.Current()
	if err := known(err); err != nil {
		return nil, err
	}
	s := &Server{fatal: newFatal()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if err := prepareDir(o.DataDir); err != nil {
		return nil, err
	}
	if s.lock, err = lock(o.DataDir); err != nil {
		return nil, err
	}
	if err := checkSpace(o.DataDir, freeBytes); err != nil {
		return nil, err
	}
	if s.address, err = frontendAddress(o.Frontend); err != nil {
		return nil, err
	}
	var uiListener net.Listener
	if o.UI != "" {
		if uiListener, err = listen(o.UI, "the Temporal UI", "listen.ui"); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				_ = uiListener.Close()
			}
		}()
	}
	if s.token = o.Token; s.token == "" {
		if s.token, err = callerToken(o.DataDir); err != nil {
			return nil, err
		}
	}
	if s.database, err = openDatabase(ctx, o.DataDir); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		file, err := openLog(o.DataDir)
		if err != nil {
			return nil, err
		}
		s.log = file
		o.Logger = slog.New(slog.NewJSONHandler(file, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	s.uiToken = newToken()
	settings := dynamicConfig()
	if err := s.startTemporal(o, newCredentials(s.token, s.uiToken), settings); err != nil {
		return nil, err
	}
	if err := s.ready(ctx, o); err != nil {
		return nil, err
	}
	settings.OverrideSetting(dynamicconfig.NamespaceCacheRefreshInterval, normalRefresh)
	if uiListener != nil {
		if s.ui, err = startUI(uiListener, s.address, s.uiToken, o); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// known refuses a user that Temporal's server would end for, with a page of its own
// words: it asks for the name of the user it runs as
// (go.temporal.io/server/temporal/fx.go, otelresource.WithProcess).
func known(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the user that rekey runs as, %d, has no name on this machine, and Temporal's server ends without one: "+
		"give the user an entry in /etc/passwd, or set USER and HOME (enough for the static build of the image)", os.Getuid())
}

func (s *Server) startTemporal(o Options, who credentials, settings dynamicconfig.Client) error {
	certificates, err := newInternalTLS(time.Now())
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		l, err := newLayout(s.address)
		if err != nil {
			return err
		}
		c, err := serverConfig(l, s.database)
		if err != nil {
			return err
		}
		attemptFatal := newFatal()
		var srv temporal.Server
		err = guard(func() (err error) {
			srv, err = temporal.NewServer(
				temporal.WithConfig(c),
				temporal.ForServices(append([]string{string(primitives.InternalFrontendService)}, temporal.DefaultServices...)),
				temporal.WithStaticHosts(l.hosts()),
				temporal.WithLogger(logger{to: o.Logger, fatal: attemptFatal}),
				temporal.WithAuthorizer(authorizer{}),
				temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return who }),
				temporal.WithTLSConfigFactory(certificates),
				temporal.WithDynamicConfigClient(settings),
			)
			if err != nil {
				return err
			}
			return srv.Start()
		})
		err = errors.Join(attemptFatal.get(), err)
		if err == nil {
			s.temporal, s.layout, s.fatal = srv, l, attemptFatal
			return nil
		}
		if srv != nil {
			_ = guard(srv.Stop)
		}
		lostPort := strings.Contains(err.Error(), "address already in use") || strings.Contains(err.Error(), "Failed to start gRPC listener")
		if !lostPort || attempt == listenAttempts {
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("the embedded Temporal server did not start within %v: this machine is too busy or too slow; start again when it has less to do, nothing is lost", servicesTimeout)
			}
			return fmt.Errorf("the embedded Temporal server did not start; see %s in the data directory: %w", logName, databaseError(s.database, err))
		}
		if s.address, err = frontendAddress(o.Frontend); err != nil { // port 0: another one
			return err
		}
	}
}

// ready waits until workflows can be started and found in every namespace.
func (s *Server) ready(ctx context.Context, o Options) error {
	added := false
	for _, namespace := range o.Namespaces {
		c, err := temporalx.Dial(ctx, s.DialOptions(namespace))
		if err != nil {
			return errors.Join(s.fatal.get(), err)
		}
		defer c.Close()
		created, err := temporalx.EnsureNamespace(ctx, c, namespace, o.Retention)
		if err != nil {
			return err
		}
		attributes, err := temporalx.EnsureSearchAttributes(ctx, c, namespace)
		if err != nil {
			return err
		}
		added = added || created || len(attributes) > 0
		// A workflow that cannot exist: "not found" comes from the history service, so the shard is up.
		err = untilNotFound(ctx, func() error {
			_, err := c.WorkflowService().DescribeWorkflowExecution(ctx, &workflowservice.DescribeWorkflowExecutionRequest{
				Namespace: namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: "ready/" + namespace},
			})
			return err
		})
		if err != nil {
			return errors.Join(s.fatal.get(), err)
		}
	}
	if added {
		// The frontend knows the attributes by now; history, which checks upserts, rereads the namespaces by itself.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * startRefresh):
		}
	}
	return nil
}

func untilNotFound(ctx context.Context, call func() error) error {
	for {
		err := call()
		var notFound *serviceerror.NotFound
		if errors.As(err, &notFound) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the embedded Temporal server does not take workflows; see %s in the data directory", logName)
		case <-time.After(startRefresh):
		}
	}
}

// Address is host:port of the frontend.
func (s *Server) Address() string { return s.address }

// UIURL is where the Temporal UI is, or "" without one.
func (s *Server) UIURL() string {
	if s.ui == nil {
		return ""
	}
	return s.ui.url
}

// Token is the credential for this server. It gives full power over the engine.
func (s *Server) Token() string { return s.token }

// DialOptions are what temporalx.Dial needs for a namespace of this server; add converters and a logger.
func (s *Server) DialOptions(namespace string) temporalx.Options {
	return temporalx.Options{Address: s.address, Namespace: namespace, Token: s.token}
}

// Failed is closed when a part of the server gave up after Start; FailedError then says which. The process should end:
// all state is in the database, and a new start goes on from there.
func (s *Server) Failed() <-chan struct{} { return s.fatal.done }

// FailedError is the reason once Failed is closed, else nil.
func (s *Server) FailedError() error { return s.fatal.get() }

// Stop ends the UI and the server, and leaves one database file that can be copied. It waits for at most ctx or 10 s;
// after that the error says so, the data directory stays locked, and the process should end, which loses nothing.
// Further calls return the first result. Stop the workers first: they would log errors for as long as it takes.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, stopTimeout)
		defer cancel()
		done := make(chan error, 1)
		go func() {
			var err error
			if s.ui != nil {
				err = s.ui.stop(ctx)
			}
			done <- errors.Join(err, s.release())
		}()
		select {
		case s.stopErr = <-done:
		case <-ctx.Done():
			s.stopErr = errors.New("the embedded Temporal server did not stop in time; end the process, nothing is lost")
		}
	})
	return s.stopErr
}

// release ends what Start began, in reverse. Safe on a half-started server.
func (s *Server) release() error {
	var errs []error
	if s.temporal != nil {
		errs = append(errs, guard(s.temporal.Stop), checkpoint(s.database))
		s.temporal = nil
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
		s.log = nil
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}

// guard turns a panic, or the end of the goroutine by logger.Fatal, into an error: Temporal uses both for a bad
// configuration.
func guard(f func() error) error {
	result := make(chan error, 1)
	go func() {
		returned := false
		defer func() {
			if r := recover(); r != nil {
				result <- fmt.Errorf("Temporal panicked: %v", r)
			} else if !returned {
				result <- errors.New("Temporal gave up")
			}
		}()
		err := f()
		returned = true
		result <- err
	}()
	return <-result
}
