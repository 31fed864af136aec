package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rekey/internal/api"
	"rekey/internal/playbook"
	"rekey/internal/secret"
	"rekey/internal/view"
)

// Bounds of what a report carries. The server has the last word.
const (
	maxSecret   = 64 << 10
	maxEvidence = 8 << 20
)

type reportFlags struct {
	account, playbook, severity, reason, source, confidence, exposure, claimed string
	secretStdin                                                                bool
	secretFile                                                                 string
	secret                                                                     string // refused
	evidence, copies                                                           []string
	wait, dryRun                                                               bool
	timeout, interval                                                          time.Duration
}

func (a *app) reportCommand() *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use:   "report PROVIDER[/KIND] KEY-ID",
		Short: "Report a key that is out; this opens an incident",
		Long: `report opens an incident for a key, or adds to the one that has it. What happens
next is decided by the playbook and its approvals: a report alone kills nothing
that was not allowed beforehand.

The secret itself is needed only to prove that the old key is dead. It is read from
standard input or a file, never from an argument, and is sealed by the server
before anything is stored.`,
		Example: example(
			"rekey report awsiam AKIAIOSFODNN7EXAMPLE --reason 'in a public repository'",
			"pbpaste | rekey report awsiam AKIAIOSFODNN7EXAMPLE --secret-stdin --confidence confirmed",
			"rekey report awsiam AKIAIOSFODNN7EXAMPLE --evidence mail.eml --wait --timeout 10m",
			"rekey report awsiam AKIAIOSFODNN7EXAMPLE --dry-run --json"),
		Args:              keyArgs,
		ValidArgsFunction: a.completeKey,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.report(cmd.Context(), args, f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.account, "account", "", "configured account of the provider; empty: the server finds it")
	fs.BoolVar(&f.secretStdin, "secret-stdin", false, "read the key's secret from standard input")
	fs.StringVar(&f.secretFile, "secret-file", "", "read the key's secret from a file")
	fs.StringVar(&f.secret, "secret", "", "refused: a secret is never an argument")
	_ = fs.MarkHidden("secret") // the flag exists: no error is possible
	fs.StringVar(&f.playbook, "playbook", "", "playbook to use, by name or file, instead of the first that matches")
	fs.StringVar(&f.reason, "reason", "", "what happened, for the record")
	fs.StringVar(&f.source, "source", "", "who says so (default: cli)")
	fs.StringVar(&f.claimed, "claimed", "", "since when the key is said to be out (RFC 3339)")
	fs.StringArrayVar(&f.evidence, "evidence", nil, "file to keep as evidence; may be given again")
	copyFlag(cmd, &f.copies)
	fs.BoolVar(&f.dryRun, "dry-run", false, "say what would be opened; start nothing")
	fs.BoolVar(&f.wait, "wait", false, "wait until it is contained or all-clear and its bundle is sealed")
	fs.DurationVar(&f.timeout, "timeout", 0, "with --wait: give up waiting after this long (exit code 3)")
	intervalFlag(cmd, &f.interval)
	choice(cmd, &f.severity, "severity", "at least this severe", "critical", "high", "medium", "low")
	choice(cmd, &f.confidence, "confidence", "how sure it is", "confirmed", "suspected", "sample")
	choice(cmd, &f.exposure, "exposure", "where it is out", "public", "internal", "unknown")
	return cmd
}

// copyFlag names places of copies: what else was kept there is in question too.
func copyFlag(cmd *cobra.Command, to *[]string) {
	cmd.Flags().StringArrayVar(to, "copy", nil, "place where a copy of the secret was seen, as the estate calls it: host/h-1, snapshot/ID, or db/main@2026-01-31 (as of then); may be given again")
}

func (a *app) report(ctx context.Context, args []string, f reportFlags) error {
	if f.secret != "" || a.looksSecret(f.reason) || slices.ContainsFunc(f.copies, a.looksSecret) {
		return secretInArguments()
	}
	t, err := a.target(args[0], args[1])
	if err != nil {
		return err
	}
	switch {
	case f.secretStdin && f.secretFile != "":
		return Usage("give one of them", "--secret-stdin and --secret-file exclude each other")
	case f.wait && f.dryRun:
		return Usage("leave out one of them", "--dry-run starts nothing to wait for")
	case f.timeout != 0 && !f.wait:
		return Usage("add --wait", "--timeout is for --wait")
	case f.timeout < 0:
		return Usage("give a duration such as 10m", "--timeout is negative")
	}
	req := api.ReportRequest{
		Provider: t.provider, Kind: t.kind, Account: f.account, KeyID: t.keyID, Severity: f.severity, Reason: f.reason,
		Source: f.source, Confidence: f.confidence, Exposure: f.exposure, Copies: f.copies, DryRun: f.dryRun, Nonce: rand.Text(),
	}
	if f.claimed != "" {
		if req.Claimed, err = time.Parse(time.RFC3339, f.claimed); err != nil {
			return Usage("write it like 2026-11-21T03:00:00Z", "--claimed is not a time")
		}
		req.Claimed = req.Claimed.UTC().Truncate(time.Millisecond)
	}
	if req.PlaybookName, req.Playbook, err = a.reportPlaybook(f.playbook); err != nil {
		return err
	}
	if req.Evidence, err = readEvidence(f.evidence); err != nil {
		return err
	}
	c, err := a.client() // before the secret is read: no answer, no secret in memory
	if err != nil {
		return err
	}
	value, err := a.readSecret(f)
	if err != nil {
		return err
	}
	defer value.Destroy()
	if !value.Empty() {
		plain := value.Reveal()
		req.Secret = base64.StdEncoding.EncodeToString(plain)
		clear(plain)
	}
	var answer api.ReportResponse
	raw, err := c.post(ctx, "/reports", req, &answer)
	if err != nil {
		return err
	}
	if !f.wait {
		if a.asJSON {
			return writeRaw(a.io.Out, raw, false)
		}
		cleanAll(&answer)
		a.renderReported(answer, f.dryRun)
		return nil
	}
	a.tell("%s: waiting until it is contained", line(answer.Incident))
	return a.wait(ctx, c, answer, f)
}

func (a *app) renderReported(r api.ReportResponse, dry bool) {
	would := func(did, dryRun string) string {
		if dry {
			return dryRun
		}
		return did
	}
	switch {
	case r.Reopened:
		fmt.Fprintf(a.io.Out, "%s  %s\n", r.Incident, would("reopened", "would be reopened"))
	case r.Existing:
		fmt.Fprintf(a.io.Out, "%s  %s\n", r.Incident, would("has this key already; the report was added to it", "has this key already; the report would be added to it"))
	default:
		fmt.Fprintf(a.io.Out, "%s  %s\n", r.Incident, would("opened", "would be opened"))
	}
	if r.Playbook != "" {
		fmt.Fprintf(a.io.Out, "  playbook    %s\n", r.Playbook)
	}
	if r.Possession != "" {
		fmt.Fprintf(a.io.Out, "  possession  %s\n", r.Possession)
	}
	if !dry {
		a.tell("Next: rekey incident watch %s", r.Incident)
	}
}

// reportPlaybook gives the name or the text of --playbook. A file is checked here:
// an invalid one starts nothing.
func (a *app) reportPlaybook(p string) (name, text string, err error) {
	if p == "" {
		return "", "", nil
	}
	if !strings.ContainsAny(p, `/\.`) {
		return p, "", nil
	}
	l, err := playbook.Load(p, playbook.WithProviders(a.descriptors()))
	if err != nil {
		return "", "", Usage("`rekey playbook validate` checks it alone", "%s", err)
	}
	return "", string(l.Source), nil
}

func readEvidence(names []string) ([]api.EvidenceFile, error) {
	var out []api.EvidenceFile
	for _, name := range names {
		data, err := readBounded(name, maxEvidence)
		if err != nil {
			return nil, Usage("give a file of at most 8 MiB", "--evidence: %s", err)
		}
		out = append(out, api.EvidenceFile{Name: filepath.Base(name), Data: base64.StdEncoding.EncodeToString(data)})
	}
	return out, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d KiB", name, limit>>10)
	}
	return data, nil
}

// readSecret reads the secret from where the flags say, or gives none.
func (a *app) readSecret(f reportFlags) (secret.Value, error) {
	var raw []byte
	var err error
	switch {
	case f.secretFile != "":
		raw, err = readBounded(f.secretFile, maxSecret)
	case f.secretStdin && a.io.InTTY && a.io.ReadPassword != nil:
		fmt.Fprint(a.io.Err, "Secret of the key (it is not shown): ")
		raw, err = a.io.ReadPassword()
		fmt.Fprintln(a.io.Err)
	case f.secretStdin:
		raw, err = io.ReadAll(io.LimitReader(a.io.In, maxSecret+1))
	default:
		return secret.Value{}, nil
	}
	defer clear(raw)
	if err != nil {
		return secret.Value{}, Usage("check the file or the pipe", "the secret cannot be read")
	}
	trimmed := bytes.TrimRight(raw, "\r\n")
	switch {
	case len(trimmed) == 0:
		return secret.Value{}, Usage("pipe it in, or leave out the flag: a report without the secret is fine", "the secret is empty")
	case len(raw) > maxSecret:
		return secret.Value{}, Usage("give the secret alone", "the secret is larger than 64 KiB")
	}
	return secret.New(trimmed), nil
}

// wait follows an incident to its first sealed bundle and gives the exit code that
// its state deserves.
func (a *app) wait(ctx context.Context, c *client, answer api.ReportResponse, f reportFlags) error {
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	last, err := a.follow(ctx, c, following{id: answer.Incident, every: f.interval, sink: a.progressOn(a.io.Err, a.io.ErrTTY), done: settled, known: true})
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	switch {
	case a.asJSON && last.raw == nil: // nothing was seen yet: at least which incident it is
		writeJSON(a.io.Out, answer)
	case a.asJSON:
		if err := writeRaw(a.io.Out, last.raw, false); err != nil {
			return err
		}
	case last.raw == nil:
		a.renderReported(answer, false)
	default:
		a.renderShow(last.Incident)
	}
	if err != nil || !allProven(last.Incident) {
		return said(CodeOpen, "not all-clear")
	}
	return nil
}

// settled tells that the old keys are dead and the first bundle is sealed.
func settled(v view.Incident) bool {
	return (v.State == "contained" || v.State == "all-clear") && v.Bundle != nil && v.Times.Sealed != ""
}

// allProven tells whether every item is in an end state that leaves nothing open
// (contracts section 5, exit code 0).
func allProven(v view.Incident) bool {
	if v.State != "all-clear" || v.Totals.Open > 0 {
		return false
	}
	n := 0
	for _, s := range []string{"revoked-verified", "expired-verified", "never-existed-proven"} {
		n += v.Totals.ByEndState[s]
	}
	return n == v.Totals.Items
}
