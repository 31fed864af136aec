package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// loggingFlags are of the commands that run until they are stopped.
func loggingFlags(cmd *cobra.Command, o *Logging) {
	choice(cmd, &o.Level, "log-level", "how much is logged to stderr", "debug", "info", "warn", "error")
	choice(cmd, &o.Format, "log-format", "lines of text, or of JSON for a log collector", "text", "json")
}

func (a *app) upCommand() *cobra.Command {
	if a.engine.Up == nil {
		return nil
	}
	o := UpOptions{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start everything in one process on this machine",
		Long: `up starts Temporal, its web page, the worker and the HTTP server in one process and
prints their addresses. Nothing has to be installed. The data directory holds
everything; stop with Ctrl-C and start again, and open incidents go on.

With --lab a simulated AWS account plays the provider, from now on and by the wall
clock; the keys that can be reported are printed. Give it a directory of its own.`,
		Example: example("rekey up", "rekey up --data ./rekey-data", "rekey up --lab --data ./lab-data"),
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Common = a.common()
			return a.engine.Up(cmd.Context(), o, a.io)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Lab, "lab", false, "start a lab too and use it as the provider: nothing real is touched")
	f.StringVar(&o.Scenario, "scenario", "", "drill, by name or file, whose estate the lab plays")
	f.StringVar(&o.ListenHTTP, "listen-http", "", "host:port of the API and webhooks")
	f.StringVar(&o.ListenTemporal, "listen-temporal", "", "host:port of the embedded Temporal")
	f.StringVar(&o.ListenUI, "listen-ui", "", "host:port of the Temporal UI")
	f.StringVar(&o.ListenMetrics, "listen-metrics", "", "host:port of /metrics, /healthz and /readyz")
	loggingFlags(cmd, &o.Logging)
	return cmd
}

func (a *app) workerCommand() *cobra.Command {
	if a.engine.Worker == nil {
		return nil
	}
	o := WorkerOptions{}
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run the workflows and provider calls against a Temporal cluster",
		Long: `worker runs workflows and provider calls until it is stopped. Several may run: an
account is called by one of them at a time.

It registers with the name of its build (see "rekey version"). Incidents go on with
one build at a time, the current one. A new build waits beside it until "rekey worker
promote", or until no worker of the current build has polled for 75 seconds; then it
replays all open incidents and takes over. What it would break stays with the build
that knows it. "rekey worker builds" shows which build is still needed.`,
		Example: example("rekey worker --temporal temporal:7233 --namespace rekey", "rekey worker --temporal rekey.tmprl.cloud:7233 --tls-cert w.pem --tls-key w.key"),
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Common, o.Build = a.common(), a.build()
			if err := o.check(); err != nil {
				return err
			}
			return a.engine.Worker(cmd.Context(), o, a.io)
		},
	}
	for _, c := range []*cobra.Command{a.promoteCommand(), a.buildsCommand()} {
		if c != nil {
			cmd.AddCommand(c)
		}
	}
	clusterFlags(cmd, &o.ClusterOptions)
	cmd.Flags().StringVar(&o.ListenMetrics, "listen-metrics", "", "host:port of /metrics, /healthz and /readyz")
	loggingFlags(cmd, &o.Logging)
	return cmd
}

func (a *app) serveCommand() *cobra.Command {
	if a.engine.Serve == nil {
		return nil
	}
	o := ServeOptions{}
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Run the HTTP server (API, webhooks) against a Temporal cluster",
		Example: example("rekey serve --temporal temporal:7233 --listen-http 0.0.0.0:8443"),
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Common = a.common()
			if err := o.check(); err != nil {
				return err
			}
			return a.engine.Serve(cmd.Context(), o, a.io)
		},
	}
	clusterFlags(cmd, &o.ClusterOptions)
	cmd.Flags().StringVar(&o.ListenHTTP, "listen-http", "", "host:port of the API and webhooks")
	cmd.Flags().StringVar(&o.ListenMetrics, "listen-metrics", "", "host:port of /metrics, /healthz and /readyz")
	loggingFlags(cmd, &o.Logging)
	return cmd
}

func clusterFlags(cmd *cobra.Command, o *ClusterOptions) {
	f := cmd.Flags()
	f.StringVar(&o.Address, "temporal", "", "host:port of the Temporal frontend")
	f.StringVar(&o.Namespace, "namespace", "", "Temporal namespace")
	f.StringVar(&o.TLSCA, "tls-ca", "", "file of the certificate authority to trust")
	f.StringVar(&o.TLSCert, "tls-cert", "", "file of our client certificate")
	f.StringVar(&o.TLSKey, "tls-key", "", "file of the client certificate's key")
	f.StringVar(&o.APIKeyFile, "api-key-file", "", "file of the Temporal API key")
}

func (o ClusterOptions) check() error {
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return Usage("give both files", "--tls-cert and --tls-key belong together")
	}
	return nil
}

func (a *app) labCommand() *cobra.Command {
	if a.engine.Lab == nil {
		return nil
	}
	o := LabOptions{}
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Run simulated providers that speak the real wire protocols",
		Long: `lab plays the providers of a drill's estate: real protocols, limits, propagation
and faults, and keys of a type of their own that no real provider knows. Point an
account's base_url at it, or use "rekey up --lab".`,
		Example: example("rekey lab", "rekey lab --listen 127.0.0.1:5000 --scenario imperva-2018 --dir ./lab"),
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.engine.Lab(cmd.Context(), o, a.io)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:0", "host:port to listen on; port 0: any that is free")
	f.StringVar(&o.Dir, "dir", "", "directory that keeps the lab's state over restarts")
	f.StringVar(&o.Scenario, "scenario", "", "drill, by name or file, whose estate is played")
	return cmd
}

func (a *app) doctorCommand() *cobra.Command {
	if a.engine.Doctor == nil {
		return nil
	}
	o := DoctorOptions{}
	var only []string
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "Say what is wrong with this installation and how to mend it",
		Example: example("rekey doctor", "rekey doctor --fix", "rekey doctor --fix --only temporal", "rekey doctor --json"),
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Common = a.common()
			var err error
			if o.Only, err = doctorAreas(only); err != nil {
				return err
			}
			r, err := a.engine.Doctor(cmd.Context(), o, a.io)
			if err != nil {
				return err
			}
			return a.showDoctor(r)
		},
	}
	cmd.Flags().BoolVar(&o.Fix, "fix", false, "mend what can be mended without losing anything")
	cmd.Flags().StringSliceVar(&only, "only", nil, "look at these areas alone: "+areaNames())
	return cmd
}

func areaNames() string {
	var out []string
	for _, a := range DoctorAreas() {
		out = append(out, string(a))
	}
	return strings.Join(out, ", ")
}

func doctorAreas(names []string) ([]DoctorArea, error) {
	var out []DoctorArea
	for _, n := range names {
		if !slices.Contains(DoctorAreas(), DoctorArea(n)) {
			return nil, Usage("the areas are "+areaNames(), "--only %s: there is no such area", shown(n))
		}
		out = append(out, DoctorArea(n))
	}
	return out, nil
}

func (a *app) showDoctor(r DoctorResult) error {
	r.Schema = SchemaDoctor
	faults := 0
	for _, c := range r.Checks {
		if c.State == "fault" {
			faults++
		}
	}
	if a.asJSON {
		writeJSON(a.io.Out, r)
	} else {
		cleanAll(&r)
		p := palette(a.io.colour(a.io.OutTTY))
		t := table{}
		for _, c := range r.Checks {
			t.add(doctorWord(p, c.State), c.ID, line(c.Detail))
			if c.Do != "" {
				t.add("", "", "-> "+line(c.Do))
			}
		}
		fmt.Fprintln(a.io.Out, strings.Join(t.lines(""), "\n"))
	}
	if faults > 0 {
		if !a.asJSON {
			a.tell("%s", count(faults, "fault", "faults"))
		}
		return said(CodeFaultsFound, "faults found")
	}
	return nil
}

func doctorWord(p palette, state string) string {
	switch state {
	case "fault":
		return p.red(state)
	case "ok", "mended":
		return p.green(state)
	}
	return p.dim(state)
}

func (a *app) benchCommand() *cobra.Command {
	if a.engine.Bench == nil {
		return nil
	}
	o := BenchOptions{}
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "Measure this machine against the budgets, in the lab",
		Example: example("rekey bench", "rekey bench --incidents 200 --json", "rekey bench --scale 1000,10000"),
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Incidents < 1 || o.Items < 1 || (len(o.Scale) > 0 && slices.Min(o.Scale) < 1) {
				return Usage("give at least 1", "--incidents, --items and --scale count from 1")
			}
			o.Common = a.common()
			r, err := a.engine.Bench(cmd.Context(), o, a.io)
			if err != nil {
				return err
			}
			r.Schema = SchemaBench
			if a.asJSON {
				writeJSON(a.io.Out, r)
				return nil
			}
			cleanAll(&r)
			t := table{}
			t.add("WHAT", "MEASURED", "BUDGET", "")
			for _, f := range r.Figures {
				budget := ""
				if f.Budget > 0 {
					budget = fmt.Sprintf("%d %s", f.Budget, f.Unit)
				}
				t.add(f.Name, fmt.Sprintf("%d %s", f.Value, f.Unit), budget, f.Note)
			}
			fmt.Fprintln(a.io.Out, strings.Join(t.lines(""), "\n"))
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Incidents, "incidents", 50, "how many incidents to run")
	f.IntVar(&o.Items, "items", 1, "how many keys each incident has")
	f.IntSliceVar(&o.Scale, "scale", nil, "instead: one incident of so many items, against a bare loop of the same calls (1000,10000)")
	return cmd
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of this program",
		Example: example("rekey version", "rekey version --json"),
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			v := a.version()
			if a.asJSON {
				writeJSON(a.io.Out, v)
				return nil
			}
			fmt.Fprintf(a.io.Out, "rekey %s (%s, %s), build %s\n", v.Version, strings.TrimSpace(v.Revision+" "+v.Go), v.Platform, or(v.Build, "unknown"))
			return nil
		},
	}
}

// versionInfo is `version --json`.
type versionInfo struct {
	Schema   string `json:"schema"`
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Build is the name under which workers of this build register.
	Build string `json:"build"`
}

func (a *app) version() versionInfo {
	v := versionInfo{Schema: "rekey.version/v1", Version: a.engine.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Build: a.build()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		v.Version = or(v.Version, "unknown")
		return v
	}
	v.Version = or(v.Version, or(info.Main.Version, "devel"))
	setting := func(key string) string {
		if i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == key }); i >= 0 {
			return info.Settings[i].Value
		}
		return ""
	}
	v.Revision = setting("vcs.revision")
	if len(v.Revision) > 12 {
		v.Revision = v.Revision[:12]
	}
	if setting("vcs.modified") == "true" {
		v.Revision += "+changes"
	}
	return v
}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "Write the completion script of a shell",
		Example:   example("source <(rekey completion bash)", "rekey completion zsh > \"${fpath[1]}/_rekey\"", "rekey completion fish > ~/.config/fish/completions/rekey.fish"),
		Args:      exactly("SHELL"),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.io.Out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.io.Out)
			case "fish":
				return cmd.Root().GenFishCompletion(a.io.Out, true)
			}
			return Usage("use bash, zsh or fish", "there is no completion for %s", shown(args[0]))
		},
	}
}
