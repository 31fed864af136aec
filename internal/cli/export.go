package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"rekey/internal/audit"
	"rekey/internal/audit/export"
	"rekey/internal/audit/report"
	"rekey/internal/view"
)

const (
	formatZip  = "zip"
	formatHTML = "html"
)

// formats are the values of --format.
func formats() []string {
	return append([]string{formatZip, formatHTML}, sortedKeys(export.Formats())...)
}

func (a *app) auditExportCommand() *cobra.Command {
	var out, redact string
	format := formatZip
	var force bool
	cmd := &cobra.Command{
		Use:   "export ID -o FILE",
		Short: "Export the record of an incident as of now",
		Long: `export asks the server for a fresh bundle and writes it to FILE ("-": stdout). With
--redact it keeps only what that audience may see; it still verifies. Only the zip
can be verified: the other formats are copies for other tools.`,
		Example: example("rekey audit export inc-7f3a9c2e41d0 -o incident.zip",
			"rekey audit export inc-7f3a9c2e41d0 -o customer.zip --redact customer",
			"rekey audit export inc-7f3a9c2e41d0 -o - --format jsonl"),
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return Usage("name the file; - is stdout", "-o FILE is missing")
			}
			f, size, err := a.fetch(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer discard(f)
			if redact != "" {
				full := f
				if f, size, err = redacted(full, size, redact); err != nil {
					return err
				}
				defer discard(f)
			}
			err = a.outputFile(out, force, func(w io.Writer) error {
				if format == formatZip {
					_, err := io.Copy(w, io.NewSectionReader(f, 0, size))
					return err
				}
				return writeFormat(w, f, size, format, args[0]+".zip")
			})
			if err == nil && out != "-" {
				a.tell("Wrote %s", out)
				if format == formatZip {
					a.tell("Check it with: rekey audit verify %s", out)
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&out, "output", "o", "", "file to write; - is stdout")
	f.BoolVar(&force, "force", false, "replace the file if it is there")
	choice(cmd, &format, "format", "what to write", formats()...)
	choice(cmd, &redact, "redact", "audience that may see it", audit.Audiences()...)
	return cmd
}

// redacted writes the form of a bundle for an audience into a temporary file,
// which the caller removes.
func redacted(full io.ReaderAt, size int64, audience string) (*os.File, int64, error) {
	f, err := os.CreateTemp("", "rekey-bundle-*.zip")
	if err != nil {
		return nil, 0, err
	}
	if _, err = audit.Redact(f, full, size, audience); err != nil {
		discard(f)
		return nil, 0, err
	}
	size, err = f.Seek(0, io.SeekEnd)
	if err != nil {
		discard(f)
		return nil, 0, err
	}
	return f, size, nil
}

// writeFormat writes a bundle's events in another format, or its page.
func writeFormat(w io.Writer, r io.ReaderAt, size int64, format, name string) error {
	b, err := audit.Open(r, size)
	if err != nil {
		return Failed(CodeUnreadable, "check it with `rekey audit verify`", "%s", err)
	}
	events, hidden, err := b.Events()
	if err != nil {
		return Failed(CodeUnreadable, "check it with `rekey audit verify`", "%s", err)
	}
	if format != formatHTML {
		return export.Write(w, format, events)
	}
	var inc view.Incident
	if raw := b.View(); len(raw) > 0 {
		if err := json.Unmarshal(raw, &inc); err != nil {
			return Failed(CodeUnreadable, "check it with `rekey audit verify`", "the state in the bundle cannot be read")
		}
	}
	mass, err := b.Mass(events)
	if err != nil {
		return Failed(CodeUnreadable, "check it with `rekey audit verify`", "%s", err)
	}
	return report.Render(w, events, inc, report.Options{File: name, Hidden: hidden, Mass: mass})
}

func (a *app) auditReportCommand() *cobra.Command {
	var out string
	var force bool
	format := formatHTML
	cmd := &cobra.Command{
		Use:   "report FILE",
		Short: "Write a bundle as a page that a person can read",
		Long: `report verifies a bundle and writes its page: verdict, timeline, exposure, who
decided what, what is still open. It needs no server. The page stands alone, without
script or outside resource.`,
		Example: example("rekey audit report incident.zip -o incident.html", "rekey audit report incident.zip --format markdown > incident.md"),
		Args:    exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			f, size, err := openFile(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			switch res := audit.Verify(f, size, audit.Options{}); res.Result {
			case audit.Failed:
				return Failed(CodeVerify, fmt.Sprintf("see what was changed: rekey audit verify %s", args[0]), "the bundle was changed, so no page is made of it")
			case audit.Unreadable:
				return Failed(CodeUnreadable, "give the zip that `rekey audit export` wrote", "%s is not a bundle", args[0])
			}
			return a.outputFile(or(out, "-"), force, func(w io.Writer) error {
				return writeFormat(w, f, size, format, filepath.Base(args[0]))
			})
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write (default: stdout)")
	cmd.Flags().BoolVar(&force, "force", false, "replace the file if it is there")
	choice(cmd, &format, "format", "what to write", formatHTML, "markdown")
	return cmd
}

func (a *app) incidentReportCommand() *cobra.Command {
	var out string
	var force bool
	format := formatHTML
	cmd := &cobra.Command{
		Use:   "report ID",
		Short: "Write an incident, as it stands, as a page that a person can read",
		Example: example("rekey incident report inc-7f3a9c2e41d0 -o incident.html",
			"rekey incident report inc-7f3a9c2e41d0 --format markdown | gh issue comment 42 --body-file -"),
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, size, err := a.fetch(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer discard(f)
			return a.outputFile(or(out, "-"), force, func(w io.Writer) error {
				return writeFormat(w, f, size, format, args[0]+".zip")
			})
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write (default: stdout)")
	cmd.Flags().BoolVar(&force, "force", false, "replace the file if it is there")
	choice(cmd, &format, "format", "what to write", formatHTML, "markdown")
	return cmd
}
