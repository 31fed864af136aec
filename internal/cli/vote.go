package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rekey/internal/statement"
	"rekey/internal/view"
)

// vote are the flags of approve and deny.
type vote struct {
	deciding
	wave, approval string
	breakGlass     bool
}

func (a *app) approveCommand() *cobra.Command {
	var f vote
	cmd := &cobra.Command{
		Use:   "approve ID --wave HASH",
		Short: "Approve a wave exactly as it was shown",
		Long: `approve votes for one wave, named by its hash: the vote counts for these items and
these calls and for nothing else. "rekey incident plan ID" shows them. The first 16
digits of the hash are enough.

--break-glass asks to contain without the votes of others. Where the incident allows
it, it pages every commander and must be reviewed by someone else within a day.`,
		Example: example("rekey incident approve inc-7f3a9c2e41d0 --wave 3f9a0c41d2e8b756",
			"rekey incident approve inc-7f3a9c2e41d0 --wave 3f9a0c41d2e8b756 --role security --identity ~/.rekey/me.key",
			"rekey incident approve inc-7f3a9c2e41d0 --wave 3f9a0c41d2e8b756 --break-glass --reason 'nobody answers'"),
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.wave == "" && f.approval == "" {
				return noWave()
			}
			if f.breakGlass && f.reason == "" {
				return Usage("say why: --reason TEXT", "--break-glass needs a reason")
			}
			return a.vote(cmd.Context(), statement.Approve, args[0], f)
		},
	}
	f.flags(cmd, "why, for the record")
	cmd.Flags().BoolVar(&f.breakGlass, "break-glass", false, "ask to contain alone; pages every commander")
	waveFlags(cmd, &f)
	return cmd
}

func noWave() error {
	return Usage("`rekey incident show` gives the whole command", "--wave is missing: a vote is for one wave as it was shown")
}

func waveFlags(cmd *cobra.Command, f *vote) {
	cmd.Flags().StringVar(&f.wave, "wave", "", "hash of the wave, or its first 16 digits")
	cmd.Flags().StringVar(&f.approval, "approval", "", "which question, where there are several on one wave")
}

func (a *app) denyCommand() *cobra.Command {
	var f vote
	cmd := &cobra.Command{
		Use:     "deny ID --wave HASH",
		Short:   "Deny a wave",
		Example: example("rekey incident deny inc-7f3a9c2e41d0 --wave 3f9a0c41d2e8b756 --reason 'wrong account'"),
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.wave == "" && f.approval == "" {
				return noWave()
			}
			if f.reason == "" {
				return Usage("say why, for the record", "--reason is missing")
			}
			return a.vote(cmd.Context(), statement.Deny, args[0], f)
		},
	}
	f.flags(cmd, "why, for the record")
	waveFlags(cmd, &f)
	return cmd
}

func (a *app) vote(ctx context.Context, action, id string, f vote) error {
	c, v, err := a.incident(ctx, id)
	if err != nil {
		return err
	}
	hash, err := waveHash(v, f.wave)
	if err != nil {
		return err
	}
	s := statement.Statement{Action: action, Incident: id, WaveHash: hash, Approval: f.approval, Text: f.reason, BreakGlass: f.breakGlass}
	if q, ok := question(v, hash, f.approval); ok {
		if hash == "" && q.WaveHash != "" {
			return noWave() // what is voted for must have been seen
		}
		s.Approval = q.ID
		who, err := a.identity(f.identity, f.actor)
		if err != nil {
			return err
		}
		clear(who.key)
		s.Role = missingRole(q, who)
	}
	return a.decide(ctx, c, f.deciding, s)
}

// waveHash completes the beginning of a hash from what the incident shows. A whole
// hash is taken as it is: whether it is stale is for the incident to say, and to
// record.
func waveHash(v view.Incident, given string) (string, error) {
	const whole = 64
	digits := strings.ToLower(strings.TrimPrefix(given, "sha256:"))
	switch {
	case given == "":
		return "", nil
	case strings.Trim(digits, "0123456789abcdef") != "" || len(digits) < hashDigits || len(digits) > whole:
		return "", Usage("copy it from `rekey incident show`", "--wave is not a hash of at least %d hex digits", hashDigits)
	case len(digits) == whole:
		return "sha256:" + digits, nil
	}
	var found []string
	see := func(h string) {
		if strings.HasPrefix(h, "sha256:"+digits) && !slices.Contains(found, h) {
			found = append(found, h)
		}
	}
	if v.Plan != nil {
		for _, w := range v.Plan.Waves {
			see(w.Hash)
		}
	}
	for _, q := range v.Approvals {
		see(q.WaveHash)
	}
	if len(found) != 1 {
		return "", Failed(view.CodeStalePlan, "look at the plan as it is now: rekey incident plan "+v.ID, "%d waves of %s have a hash that begins like this", len(found), v.ID)
	}
	return found[0], nil
}

// question finds the open approval that a vote is for.
func question(v view.Incident, hash, id string) (view.Approval, bool) {
	for _, q := range openApprovals(v) {
		if (id == "" || q.ID == id) && (hash == "" || q.WaveHash == hash) {
			return q, true
		}
	}
	return view.Approval{}, false
}

// missingRole picks the role to vote in: the first of the question's roles that
// the person is known to have and nobody voted in yet. "" leaves it to the
// incident.
func missingRole(q view.Approval, who identity) string {
	for _, role := range q.Roles {
		if slices.Contains(who.roles, role) && !slices.ContainsFunc(q.Votes, func(v view.Vote) bool { return v.Role == role }) {
			return role
		}
	}
	return ""
}
