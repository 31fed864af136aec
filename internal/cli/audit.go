package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"rekey/internal/audit"
)

func (a *app) auditCommand() *cobra.Command {
	return family("audit", "Export, verify and read the sealed record", example(
		"rekey audit export inc-7f3a9c2e41d0 -o incident.zip",
		"rekey audit verify incident.zip",
		"rekey audit stats ~/.local/state/rekey/bundles"),
		a.auditExportCommand(), a.auditVerifyCommand(), a.auditReportCommand(), a.auditStatsCommand())
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var keyFiles []string
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a bundle offline: any changed, missing or added byte is named",
		Long: `verify needs no network and no engine. Exit code 0: verified; 4: it was changed;
1: it cannot be read. Without --key the key inside the bundle is used, which proves
that the bundle is whole but not who made it.`,
		Example: example("rekey audit verify incident.zip", "rekey audit verify incident.zip --key audit.pub --json"),
		Args:    exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			keys, err := verifierKeys(keyFiles)
			if err != nil {
				return err
			}
			f, size, err := openFile(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			res := audit.Verify(f, size, audit.Options{TrustedKeys: keys, File: filepath.Base(args[0])})
			a.renderVerified(res)
			switch res.Result {
			case audit.Verified:
				return nil
			case audit.Failed:
				return said(CodeVerify, "the bundle was changed")
			}
			return said(CodeUnreadable, "the bundle is unreadable")
		},
	}
	cmd.Flags().StringArrayVar(&keyFiles, "key", nil, "file of a note verifier key to trust; may be given again")
	return cmd
}

// verifierKeys reads the lines of --key files.
func verifierKeys(files []string) ([]string, error) {
	var keys []string
	for _, name := range files {
		raw, err := readBounded(name, maxSecret)
		if err != nil {
			return nil, Usage("give the audit.pub of the installation", "--key: %s", err)
		}
		for _, l := range strings.Split(string(raw), "\n") {
			if l = strings.TrimSpace(l); l != "" {
				keys = append(keys, l)
			}
		}
	}
	if err := audit.CheckKeys(keys); err != nil {
		return nil, Usage("give the audit.pub of the installation", "--key: %s", err)
	}
	return keys, nil
}

func openFile(name string) (*os.File, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, Failed(CodeUnreadable, "check the path", "the file cannot be opened: %s", err)
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, 0, Failed(CodeUnreadable, "give the zip that `rekey audit export` wrote", "%s is not a file", name)
	}
	return f, info.Size(), nil
}

func (a *app) renderVerified(r audit.Result) {
	if a.asJSON {
		writeJSON(a.io.Out, r)
		return
	}
	cleanAll(&r)
	p := palette(a.io.colour(a.io.OutTTY))
	word := p.green("VERIFIED")
	if r.Result != audit.Verified {
		word = p.red(strings.ToUpper(r.Result))
	}
	out := []string{p.bold(r.File) + "  " + word}
	t := table{}
	add := func(name, value string) {
		if value != "" {
			t.add(name, value)
		}
	}
	add("incident", r.Incident)
	add("origin", r.Origin)
	add("events", fmt.Sprint(r.Events))
	add("root", r.Root)
	for _, k := range r.Checkpoint.Keys {
		t.add("signed by", k.Name+" "+k.Hash+" "+yesNo(k.Trusted, "(trusted)", "(key taken from the bundle)"))
	}
	if r.Redaction.Audience != "" {
		t.add("redacted", fmt.Sprintf("for %s, %d events hidden", r.Redaction.Audience, r.Redaction.Hidden))
	}
	if r.Result == audit.Verified {
		t.add("final", yesNo(r.Final, "yes", "no, a later bundle extends it"))
	}
	out = append(out, t.lines("  ")...)
	for _, s := range r.Proved {
		out = append(out, "  proved      "+s)
	}
	for _, s := range r.NotProved {
		out = append(out, "  not proved  "+p.yellow(s))
	}
	for _, f := range r.Faults {
		where := f.File
		if f.Line > 0 {
			where += fmt.Sprintf(":%d", f.Line)
		}
		out = append(out, fmt.Sprintf("  %s %s: %s", p.red(f.Code), or(where, "bundle"), line(f.Detail)))
	}
	if r.FaultsMore > 0 {
		out = append(out, fmt.Sprintf("  and %s more", count(r.FaultsMore, "fault", "faults")))
	}
	fmt.Fprintln(a.io.Out, strings.Join(out, "\n"))
}

func (a *app) auditStatsCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "stats DIR",
		Short:   "Show times and counts over the bundles of a directory",
		Example: example("rekey audit stats ~/.local/state/rekey/bundles", "rekey audit stats ./bundles --json"),
		Args:    exactly("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := audit.Stats(args[0])
			if err != nil {
				return Failed(CodeUnreadable, "give the directory with the bundles", "%s", err)
			}
			if a.asJSON {
				writeJSON(a.io.Out, r)
				return nil
			}
			cleanAll(&r)
			t := table{}
			t.add("INCIDENT", "STATE", "ITEMS", "OPEN", "FIRST CALL", "CONTAINED", "EXPOSED", "BUNDLE")
			for _, b := range r.Bundles {
				file := b.File
				if b.Result != audit.Verified {
					file += " (" + b.Result + ": not counted)"
				}
				t.add(b.Incident, or(b.State, "-"), fmt.Sprint(b.Items), fmt.Sprint(b.OpenItems), msOr(b.FirstCallMs), msOr(b.TimeToContainMs), msOr(b.ExposureMs), file)
			}
			out := t.lines("")
			s := table{}
			s.add("", "COUNT", "P50", "P95", "MAX")
			for _, d := range []struct {
				name string
				audit.Spread
			}{{"first call", r.All.FirstCall}, {"contained", r.All.TimeToContain}, {"exposed", r.All.Exposure}} {
				s.add(d.name, fmt.Sprint(d.Count), ms(d.P50), ms(d.P95), ms(d.Max))
			}
			out = append(append(out, ""), s.lines("")...)
			for _, u := range r.Unreadable {
				out = append(out, u+" is unreadable")
			}
			fmt.Fprintln(a.io.Out, strings.Join(out, "\n"))
			return nil
		},
	}
}

func msOr(n *int64) string {
	if n == nil {
		return "-"
	}
	return ms(*n)
}

// fetch downloads the bundle of an incident into a temporary file, which the
// caller removes.
func (a *app) fetch(ctx context.Context, id string) (f *os.File, size int64, err error) {
	if err := incidentID(id); err != nil {
		return nil, 0, err
	}
	c, err := a.client()
	if err != nil {
		return nil, 0, err
	}
	body, err := c.download(ctx, incidentPath(id, "/bundle"), url.Values{})
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = body.Close() }()
	f, err = os.CreateTemp("", "rekey-bundle-*.zip")
	if err != nil {
		return nil, 0, err
	}
	size, err = io.Copy(f, body)
	if err != nil {
		discard(f)
		return nil, 0, Failed(CodeUnreachable, "try again", "the bundle did not arrive whole")
	}
	return f, size, nil
}

func discard(f *os.File) {
	_ = f.Close()
	_ = os.Remove(f.Name())
}

// outputFile writes to a file that appears whole or not at all; "-" is stdout.
func (a *app) outputFile(name string, force bool, write func(io.Writer) error) error {
	if name == "-" {
		return write(a.io.Out)
	}
	if _, err := os.Lstat(name); err == nil && !force {
		return Usage("choose another -o FILE, or add --force", "%s is there already", clean(name))
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".tmp-*")
	if err != nil {
		return Failed(CodeFailed, "check the directory of -o FILE", "the file cannot be written: %s", err)
	}
	err = write(tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if err == nil {
		err = tmp.Close()
	}
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		discard(tmp)
	}
	return err
}
