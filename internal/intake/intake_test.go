package intake_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/api"
	"rekey/internal/intake"
	"rekey/internal/people"
	"rekey/internal/playbook"
	"rekey/internal/secret"
	"rekey/internal/statement"
	"rekey/playbooks"
	"rekey/workflows"
)

const keyID = "AKIAIOSFODNN7EXAMPLE"

var alice = intake.Caller{Actor: "local:alice", Source: "cli", SourceKind: "cli"}

func request(change ...func(*api.ReportRequest)) api.ReportRequest {
	r := api.ReportRequest{Provider: "awsiam", KeyID: keyID, Reason: "in a public repository", Nonce: "nonce-0001"}
	for _, c := range change {
		c(&r)
	}
	return r
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func (w *world) report(t *testing.T, r api.ReportRequest) api.ReportResponse {
	t.Helper()
	answer, err := w.Report(context.Background(), alice, r)
	require.NoError(t, err)
	return answer
}

func TestReportStartsAnIncident(t *testing.T) {
	w := newWorld(t, oneAccount, nil)
	hidden := canary(t)
	answer := w.report(t, request(func(r *api.ReportRequest) {
		r.Secret = b64(hidden)
		r.Reason = "the secret was " + hidden + "\x1b[2J"
		r.Claimed = t0.Add(-time.Hour)
		r.Exposure, r.Severity = "public", "high"
		r.Evidence = []api.EvidenceFile{{Name: "../mail/" + hidden + ".eml", Data: b64("here is lab-secret-0123456789abcdef and " + hidden)}}
	}))
	proposed, err := secret.IncidentID(answer.FP)
	require.NoError(t, err)
	require.Equal(t, api.ReportResponse{
		Schema: "rekey.report/v1", Incident: proposed, Report: answer.Report, FP: answer.FP,
		Playbook: "aws-access-key", Possession: "unchecked", URL: "http://127.0.0.1:8443/api/v1/incidents/" + proposed,
	}, answer)

	run := w.engine.runs[answer.Incident]
	require.Len(t, run.reports, 1)
	rep := run.reports[0]
	require.Equal(t, "awsiam", rep.Key.Provider)
	require.Equal(t, "prod", rep.Key.Account, "the only account")
	require.Equal(t, "user-access-key", rep.Key.Kind, "told from the id")
	require.Equal(t, keyID, rep.Key.ID)
	require.Equal(t, "key/"+rep.Key.Short(), rep.Secret)
	require.False(t, rep.Possession, "a secret that nobody has checked proves nothing")
	require.Equal(t, "confirmed", rep.Confidence)
	require.Equal(t, "contain", rep.Ceiling)
	require.Equal(t, t0, rep.Received)
	require.Equal(t, t0.Add(-time.Hour), rep.Claimed)

	t.Run("the secret is sealed, bound, and nowhere else", func(t *testing.T) {
		v, err := w.sealed.Open(t.Context(), secret.Ref{Incident: answer.Incident, Handle: rep.Secret, Provider: "awsiam", Origin: "aws"}, "test")
		require.NoError(t, err)
		require.Equal(t, hidden, string(v.Reveal()))
		_, err = w.sealed.Open(t.Context(), secret.Ref{Incident: answer.Incident, Handle: rep.Secret, Provider: "awsiam", Origin: "http://elsewhere"}, "test")
		require.ErrorIs(t, err, secret.ErrBinding)

		state, err := json.Marshal([]any{run.input, run.reports, answer})
		require.NoError(t, err)
		for _, text := range []string{string(state), w.log.String()} {
			require.NotContains(t, text, hidden)
			require.NotContains(t, text, b64(hidden))
		}
		require.Equal(t, "the secret was [redacted:reported]", rep.Reason, "and no terminal escapes")
		require.NoError(t, filepath.WalkDir(w.data, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			raw, err := os.ReadFile(path)
			require.NotContains(t, string(raw), hidden, path)
			return err
		}))
	})
	t.Run("the evidence is kept under its hash and counted", func(t *testing.T) {
		require.Len(t, rep.Evidence, 1)
		content, err := w.blobs.Get(t.Context(), rep.Evidence[0].Hash)
		require.NoError(t, err)
		require.Equal(t, "here is lab-secret-0123456789abcdef and "+hidden, string(content))
		require.Equal(t, int64(len(content)), rep.Evidence[0].Size)
		require.Equal(t, "[redacted:reported].eml", rep.Evidence[0].Name, "no path, no secret")
		require.Contains(t, w.log.String(), `"count":1`)
	})
	t.Run("the server's statement covers all of it", func(t *testing.T) {
		signed := rep.Statement
		require.NoError(t, signed.Verify(people.Public(w.signer)))
		require.Equal(t, statement.Report, signed.Statement.Action)
		require.Equal(t, answer.Incident, signed.Statement.Incident)
		require.Equal(t, "local:alice", signed.Statement.Actor)
		require.Equal(t, []string{rep.Key.FP}, signed.Statement.Items)
		digest, err := intake.Digest(rep)
		require.NoError(t, err)
		require.Equal(t, digest, signed.Statement.Text)
		changed := rep
		changed.Ceiling = "propose"
		digest, err = intake.Digest(changed)
		require.NoError(t, err)
		require.NotEqual(t, digest, signed.Statement.Text)
	})
	t.Run("what the incident pins", func(t *testing.T) {
		s := run.input.Settings
		l, err := playbook.Load("aws-access-key")
		require.NoError(t, err)
		require.Equal(t, l.Digest, s.Digest)
		require.Equal(t, people.LocalActor(), s.People[0].Actor)
		require.Equal(t, []string{people.Encode(people.Public(w.signer))}, s.ServerKeys)
		require.Equal(t, 2, s.Quorum)
		k := s.Kinds["awsiam/user-access-key"]
		require.Equal(t, int64(15000), k.PropagationMs)
		require.True(t, k.SessionsOutlive)
		require.True(t, k.ProbeAction)
		require.Equal(t, map[string][]string{"prod": {"eu-central-1", "us-east-1"}}, k.Vantages)
		require.Equal(t, "rekey", s.Namespace)
	})
}

func TestDuplicates(t *testing.T) {
	w := newWorld(t, oneAccount, nil)
	hidden := canary(t)
	first := w.report(t, request(func(r *api.ReportRequest) { r.Secret = b64(hidden) }))

	again := w.report(t, request(func(r *api.ReportRequest) { r.Secret = b64(hidden) }))
	require.Equal(t, first.Report, again.Report, "the same nonce is the same report")
	require.True(t, again.Existing)
	require.Len(t, w.engine.runs[first.Incident].reports, 1)

	other := w.report(t, request(func(r *api.ReportRequest) { r.Nonce = "nonce-0002" }))
	require.Equal(t, first.Incident, other.Incident)
	require.NotEqual(t, first.Report, other.Report)
	require.Len(t, w.engine.runs[first.Incident].reports, 2, "two reports, one incident")
	require.Equal(t, 1, w.engine.runs[first.Incident].starts)

	bob := alice
	bob.Actor = "local:bob"
	answer, err := w.Report(t.Context(), bob, request())
	require.NoError(t, err)
	require.NotEqual(t, first.Report, answer.Report, "another person's nonce is another report")

	mismatch := w.report(t, request(func(r *api.ReportRequest) { r.Nonce, r.Secret = "nonce-0003", b64(canary(t)) }))
	require.Equal(t, first.Incident, mismatch.Incident)
	reports := w.engine.runs[first.Incident].reports
	last := reports[len(reports)-1]
	require.Regexp(t, `^key/[0-9a-f]{12}/[0-9a-f]{12}$`, last.Secret, "another secret of the same key is sealed beside the first")
	v, err := w.sealed.Open(t.Context(), secret.Ref{Incident: first.Incident, Handle: reports[0].Secret, Provider: "awsiam", Origin: "aws"}, "test")
	require.NoError(t, err)
	require.Equal(t, hidden, string(v.Reveal()))
}

func TestAliases(t *testing.T) {
	w := newWorld(t, oneAccount, nil)
	hidden := canary(t)
	first := w.report(t, request(func(r *api.ReportRequest) { r.Secret = b64(hidden) }))
	rep := w.engine.runs[first.Incident].reports[0]
	require.NotEmpty(t, rep.Alias)
	require.Equal(t, []string{
		workflows.RegisterID(rep.Alias) + " " + rep.Alias, workflows.RegisterID(rep.Key.FP) + " " + rep.Key.FP,
	}, w.engine.claims, "each fingerprint in its own register")
	require.Equal(t, map[string]string{rep.Alias: first.Incident, rep.Key.FP: first.Incident}, w.engine.owners)

	// The same secret under another id (a typo, a rotated id) comes to the incident
	// that has the secret.
	second := w.report(t, request(func(r *api.ReportRequest) {
		r.KeyID, r.Nonce, r.Secret = "AKIAI44QH8DHBEXAMPLE", "nonce-0002", b64(hidden)
	}))
	require.Equal(t, first.Incident, second.Incident)

	// A key that has an incident goes there, whoever has the secret.
	w.engine.owners = map[string]string{rep.Alias: "inc-aaaaaaaaaaaa", rep.Key.FP: "inc-bbbbbbbbbbbb"}
	third := w.report(t, request(func(r *api.ReportRequest) { r.Nonce, r.Secret = "nonce-0003", b64(hidden) }))
	require.Equal(t, "inc-bbbbbbbbbbbb", third.Incident)
	require.Contains(t, w.log.String(), "one secret, two incidents")
	_, err := w.sealed.Open(t.Context(), secret.Ref{Incident: "inc-bbbbbbbbbbbb", Handle: rep.Secret, Provider: "awsiam", Origin: "aws"}, "test")
	require.NoError(t, err, "sealed under the incident that will use it")
}

func TestReopen(t *testing.T) {
	w := newWorld(t, oneAccount, nil)
	first := w.report(t, request())
	w.engine.close(first.Incident, intake.Closed{
		Reopened: workflows.Reopened{Run: "run-1", Digest: "sha256:ab", Waves: 3, Taken: workflows.Taken{}.With(first.Report)},
	})
	again := w.report(t, request())
	require.True(t, again.Existing)
	require.False(t, again.Reopened, "a lost answer, asked for again after the incident was over, reopens nothing")

	second := w.report(t, request(func(r *api.ReportRequest) { r.Nonce = "nonce-0002" }))
	require.Equal(t, first.Incident, second.Incident)
	require.True(t, second.Reopened)
	require.Equal(t, &workflows.Reopened{Run: "run-1", Digest: "sha256:ab", Waves: 3, Taken: workflows.Taken{}.With(first.Report)}, w.engine.runs[first.Incident].input.Reopened)
}

func TestIncidentClosesWhileTheReportArrives(t *testing.T) {
	w := newWorld(t, oneAccount, nil)
	first := w.report(t, request())
	once := true
	w.engine.closing = func(incident string) {
		if once {
			once = false
			w.engine.close(incident, intake.Closed{Reopened: workflows.Reopened{Run: "run-1", Digest: "sha256:ab"}})
		}
	}
	answer := w.report(t, request(func(r *api.ReportRequest) { r.Nonce = "nonce-0002" }))
	require.True(t, answer.Reopened)
	require.Equal(t, "sha256:ab", w.engine.runs[first.Incident].input.Reopened.Digest)
	require.Len(t, w.engine.runs[first.Incident].reports, 2)
}

// What Slack rests on is pinned with the incident, for the ways to vote.
func TestWhatVotesRestOnIsPinned(t *testing.T) {
	w := newWorld(t, oneAccount+"channels: {slack: {team: T0123, bot_token_file: /run/secrets/slack, rests_on: [awsiam/prod, postgres]}}\n", nil)
	set := w.engine.runs[w.report(t, request()).Incident].input.Settings
	require.Equal(t, []string{"slack"}, set.Channels)
	require.Equal(t, map[string][]string{"slack": {"awsiam/prod", "postgres"}}, set.VoteRests)
}

func TestDryRun(t *testing.T) {
	w := newWorld(t, oneAccount, nil)
	dry := request(func(r *api.ReportRequest) { r.DryRun, r.Secret = true, b64(canary(t)) })
	answer := w.report(t, dry)
	require.Equal(t, "aws-access-key", answer.Playbook)
	require.False(t, answer.Existing)
	require.Empty(t, w.engine.runs)
	require.Empty(t, w.engine.claims)
	entries, err := os.ReadDir(filepath.Join(w.data, "sealed"))
	require.NoError(t, err)
	require.Empty(t, entries, "nothing is sealed")

	taken := w.report(t, request())
	answer = w.report(t, dry)
	require.Equal(t, taken.Incident, answer.Incident)
	require.True(t, answer.Existing)
	require.Len(t, w.engine.runs[taken.Incident].reports, 1)
}

func TestEngineDown(t *testing.T) {
	w := newWorld(t, oneAccount, nil)
	w.engine.down = errors.New("connection refused to 10.0.0.1")
	_, err := w.Report(t.Context(), alice, request())
	var refused *intake.Refusal
	require.ErrorAs(t, err, &refused)
	require.Equal(t, intake.Unavailable, refused.Kind)
	require.NotContains(t, refused.Error(), "10.0.0.1", "the cause is for the log")
	w.engine.down = nil
	require.False(t, w.report(t, request()).Existing, "sent again it is taken")
}

func TestCeilings(t *testing.T) {
	for name, tt := range map[string]struct {
		caller intake.Caller
		source string
		want   string
		kind   string
	}{
		"own source":                     {alice, "", "contain", "cli"},
		"a name cannot raise":            {intake.Caller{Actor: "x", Source: "slack", SourceKind: "chat"}, "github", "propose", "chat"},
		"a name can lower":               {alice, "outsider", "propose", "cli"},
		"both allow":                     {alice, "github", "contain", "cli"},
		"a source that nobody has named": {intake.Caller{Actor: "x", Source: "new", SourceKind: "webhook"}, "", "propose", "webhook"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, oneAccount, nil)
			answer, err := w.Report(t.Context(), tt.caller, request(func(r *api.ReportRequest) { r.Source = tt.source }))
			require.NoError(t, err)
			rep := w.engine.runs[answer.Incident].reports[0]
			require.Equal(t, tt.want, rep.Ceiling)
			require.Equal(t, tt.kind, rep.SourceKind, "what was authenticated, not what was said")
		})
	}
}

func TestPlaybooks(t *testing.T) {
	shipped, err := playbook.Load("aws-access-key")
	require.NoError(t, err)
	text := strings.Replace(string(shipped.Source), "title: Leaked AWS IAM user access key", "title: Ours", 1)
	digest, err := playbook.Digest([]byte(text))
	require.NoError(t, err)
	with := func(f func(*api.ReportRequest)) api.ReportRequest { return request(f) }
	given := with(func(r *api.ReportRequest) { r.Playbook = text })

	t.Run("no playbook takes it: a person is asked", func(t *testing.T) {
		w := newWorld(t, oneAccount+"\n", nil)
		answer := w.report(t, with(func(r *api.ReportRequest) { r.Confidence = "sample" }))
		require.Equal(t, "none", answer.Playbook)
		s := w.engine.runs[answer.Incident].input.Settings
		require.Equal(t, playbooks.StartRecord, s.Playbook.Start, "a test message is written down")

		w = newWorld(t, "providers: {vault: {main: {account_id: x}}}", nil)
		answer = w.report(t, with(func(r *api.ReportRequest) { r.Provider, r.Kind, r.KeyID = "vault", "token", "accessor-1" }))
		require.Equal(t, "none", answer.Playbook)
		s = w.engine.runs[answer.Incident].input.Settings
		require.Equal(t, playbooks.StartAsk, s.Playbook.Start)
		require.Equal(t, "vault", s.Playbook.Match.Provider)
		require.NotEmpty(t, s.Digest)
	})
	t.Run("a text that is not pinned", func(t *testing.T) {
		w := newWorld(t, oneAccount, nil)
		_, err := w.Report(t.Context(), alice, given)
		var refused *intake.Refusal
		require.ErrorAs(t, err, &refused)
		require.Equal(t, intake.Forbidden, refused.Kind)
		require.Contains(t, refused.Body.Do, digest, "it says what to pin")
		require.Empty(t, w.engine.runs)
	})
	t.Run("a text that is pinned", func(t *testing.T) {
		w := newWorld(t, strings.Replace(oneAccount, "ceilings: {", "ceilings: {playbook_digests: ["+digest+"], ", 1), nil)
		answer := w.report(t, given)
		require.Equal(t, digest, w.engine.runs[answer.Incident].input.Settings.Digest)
	})
	t.Run("the text of a shipped one", func(t *testing.T) {
		w := newWorld(t, oneAccount, nil)
		w.report(t, with(func(r *api.ReportRequest) { r.Playbook = string(shipped.Source) }))
	})
	t.Run("the lab takes any valid one, and no looser one", func(t *testing.T) {
		w := newWorld(t, oneAccount, func(o *intake.Options) { o.Lab = true })
		w.report(t, given)
		loose := strings.Replace(text, "irreversible:      {roles: [commander, security], quorum: 2", "irreversible:      {roles: [commander, security], quorum: 1", 1)
		require.NotEqual(t, text, loose)
		_, err := w.Report(t.Context(), alice, with(func(r *api.ReportRequest) { r.Playbook = loose }))
		require.ErrorContains(t, err, "irreversible.quorum")
	})
	t.Run("an invalid one", func(t *testing.T) {
		w := newWorld(t, oneAccount, func(o *intake.Options) { o.Lab = true })
		_, err := w.Report(t.Context(), alice, with(func(r *api.ReportRequest) { r.Playbook = "apiVersion: rekey/v1\nkind: Playbook\n" }))
		var refused *intake.Refusal
		require.ErrorAs(t, err, &refused)
		require.Equal(t, intake.Malformed, refused.Kind)
		require.Contains(t, err.Error(), "playbook.yaml:")
	})
	t.Run("one of rekey.yaml goes before the shipped ones", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "ours.yaml")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		named := oneAccount + "\nplaybooks: {files: [" + file + "]}\n"
		w := newWorld(t, strings.Replace(named, "ceilings: {", "ceilings: {playbook_digests: ["+digest+"], ", 1), nil)
		answer := w.report(t, request())
		require.Equal(t, digest, w.engine.runs[answer.Incident].input.Settings.Digest)

		cfg := newWorld(t, oneAccount, nil)
		cfg.cfg.Playbooks.Files = []string{file}
		_, err := intake.New(cfg.Options)
		require.ErrorContains(t, err, digest, "one that is not pinned stops the start, and says what to pin")
	})
	t.Run("where it is followed comes from rekey.yaml when the playbook does not say", func(t *testing.T) {
		w := newWorld(t, oneAccount, func(o *intake.Options) {
			o.Config.Record.Slack.Channel, o.Config.Record.GitHub.Repo = "#incidents", "acme/security"
		})
		answer := w.report(t, request())
		r := w.engine.runs[answer.Incident].input.Settings.Playbook.Record
		require.Equal(t, "#incidents", r.Slack.Channel)
		require.Equal(t, "acme/security", r.GitHub.Repo)
	})
	t.Run("a shipped one is tightened to the ceiling", func(t *testing.T) {
		w := newWorld(t, strings.Replace(oneAccount, "ceilings: {", "ceilings: {irreversible: {quorum: 3}, ", 1), nil)
		answer := w.report(t, request())
		s := w.engine.runs[answer.Incident].input.Settings
		require.Equal(t, 3, s.Playbook.Approvals["irreversible"].Quorum)
		require.Equal(t, shipped.Digest, s.Digest)
	})
}

func TestHoldsThatCannotBeReadStopNothingFromBeingSaid(t *testing.T) {
	w := newWorld(t, oneAccount, func(o *intake.Options) {
		o.Holds = func() ([]workflows.StandingHold, error) { return nil, errors.New("no such file") }
	})
	_, err := w.Report(t.Context(), alice, request())
	require.ErrorContains(t, err, "standing holds cannot be read")
	require.Empty(t, w.engine.runs)

	hold := workflows.StandingHold{KeyID: keyID, By: "legal", Why: "court order"}
	w = newWorld(t, oneAccount, func(o *intake.Options) {
		o.Holds = func() ([]workflows.StandingHold, error) { return []workflows.StandingHold{hold}, nil }
	})
	answer := w.report(t, request())
	require.Equal(t, []workflows.StandingHold{hold}, w.engine.runs[answer.Incident].input.Settings.Holds)
}

func TestDeliver(t *testing.T) {
	w := newWorld(t, oneAccount, nil)
	first := w.report(t, request())
	key := w.engine.runs[first.Incident].reports[0].Key
	trip := workflows.Report{ID: "trip-1", Source: "tripwire", SourceKind: "tripwire", Actor: "rekey:watch", Received: t0, Confidence: "confirmed", Key: key, Ceiling: "propose"}
	require.NoError(t, w.Deliver(t.Context(), first.Incident, trip))
	require.NoError(t, w.Deliver(t.Context(), first.Incident, trip))
	require.Len(t, w.engine.runs[first.Incident].reports, 2, "once")

	w.engine.close(first.Incident, intake.Closed{Reopened: workflows.Reopened{Run: "run-1", Digest: "sha256:ab", Taken: workflows.Taken{}.With(first.Report).With("trip-1")}})
	require.NoError(t, w.Deliver(t.Context(), first.Incident, trip))
	require.NotNil(t, w.engine.runs[first.Incident].closed, "known already")
	trip.ID = "trip-2"
	require.NoError(t, w.Deliver(t.Context(), first.Incident, trip))
	run := w.engine.runs[first.Incident]
	require.Nil(t, run.closed)
	require.Equal(t, "run-1", run.input.Reopened.Run)
	require.Equal(t, "aws-access-key", run.input.Settings.Playbook.Name)
}

// TestLostAnswers: a step fails, before or after its effect; the same request sent
// again ends in one incident with one report and one sealed secret.
func TestLostAnswers(t *testing.T) {
	for _, step := range []string{"claim", "seal", "blob", "state", "start", "signal"} {
		for _, effect := range []bool{false, true} {
			t.Run(step+map[bool]string{false: " lost", true: " done, answer lost"}[effect], func(t *testing.T) {
				f := &failing{step: step, effect: effect}
				w := newWorld(t, oneAccount, func(o *intake.Options) {
					f.Engine, o.Engine = o.Engine, f
					o.Sealed = failingStore{o.Sealed, f}
					o.Blobs = failingBlobs{o.Blobs, f}
				})
				hidden := canary(t)
				if step == "signal" {
					f.step = ""
					w.report(t, request(func(r *api.ReportRequest) { r.Nonce = "nonce-0000" }))
					f.step = step
				}
				r := request(func(r *api.ReportRequest) {
					r.Secret = b64(hidden)
					r.Evidence = []api.EvidenceFile{{Name: "mail.eml", Data: b64("text")}}
				})
				_, err := w.Report(t.Context(), alice, r)
				var refused *intake.Refusal
				require.ErrorAs(t, err, &refused)
				require.Equal(t, intake.Unavailable, refused.Kind)
				require.True(t, f.failed)

				answer := w.report(t, r)
				require.Len(t, w.engine.runs, 1)
				count := 0
				for _, rep := range w.engine.runs[answer.Incident].reports {
					if rep.ID == answer.Report {
						count++
						v, err := w.sealed.Open(t.Context(), secret.Ref{Incident: answer.Incident, Handle: rep.Secret, Provider: "awsiam", Origin: "aws"}, "test")
						require.NoError(t, err)
						require.Equal(t, hidden, string(v.Reveal()))
					}
				}
				require.Equal(t, 1, count)
			})
		}
	}
}
