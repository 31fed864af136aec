package intake_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/internal/api"
	"rekey/internal/intake"
)

// TestRefusedReports: each row is a request that is refused before anything is
// stored. CANARY stands for something that must not be shown.
func TestRefusedReports(t *testing.T) {
	for name, tt := range map[string]struct {
		yaml   string
		change func(r *api.ReportRequest, canary string)
		want   string
	}{
		"no nonce":             {"", func(r *api.ReportRequest, _ string) { r.Nonce = "" }, "invalid: the nonce is missing or malformed: give 8 to 128 letters, digits, dashes or underscores, new for each report and the same when it is sent again"},
		"nonce with a newline": {"", func(r *api.ReportRequest, _ string) { r.Nonce = "nonce-0001\n" }, "invalid: the nonce is missing or malformed: give 8 to 128 letters, digits, dashes or underscores, new for each report and the same when it is sent again"},
		"provider, near":       {"", func(r *api.ReportRequest, _ string) { r.Provider = "awsaim" }, `invalid: there is no such provider: did you mean "awsiam"?`},
		"provider, far":        {"", func(r *api.ReportRequest, c string) { r.Provider = c }, "invalid: there is no such provider: give one of awsiam, vault (`rekey provider list`)"},
		"no key id":            {"", func(r *api.ReportRequest, _ string) { r.KeyID = "" }, "invalid: the key id is missing: give the id as the provider shows it"},
		"malformed key id":     {"", func(r *api.ReportRequest, _ string) { r.KeyID = "AKIA123" }, "invalid: a key id begins with AKIA or ASIA and has 20 characters: give the id as the provider shows it"},
		"secret as key id":     {"", func(r *api.ReportRequest, c string) { r.KeyID = c }, "invalid: what was given as key id looks like a secret: give the key's public id; the secret itself goes through --secret-stdin. Treat it as exposed where you typed it"},
		"known secret form":    {"", func(r *api.ReportRequest, c string) { r.KeyID = "lab-secret-" + c[:16] }, "invalid: what was given as key id looks like a secret: give the key's public id; the secret itself goes through --secret-stdin. Treat it as exposed where you typed it"},
		"control characters":   {"", func(r *api.ReportRequest, _ string) { r.KeyID = "AKIA\x1b[2J" }, "invalid: the key id is not one: give the id as the provider shows it, on one line"},
		"a huge key id":        {"", func(r *api.ReportRequest, _ string) { r.KeyID = strings.Repeat("A", 600) }, "invalid: the key id is not one: give the id as the provider shows it, on one line"},
		"another kind":         {"", func(r *api.ReportRequest, _ string) { r.Kind = "sts-session" }, "invalid: this key id is of another kind: leave the kind out, or write awsiam/user-access-key"},
		"no such kind":         {"providers: {vault: {main: {account_id: x}}}", func(r *api.ReportRequest, _ string) { r.Provider, r.Kind = "vault", "key" }, "invalid: Vault has no such kind of credential: give one of token"},
		"no account":           {"data: x", func(*api.ReportRequest, string) {}, "invalid: no account of this provider is configured: add providers.awsiam.<account> to rekey.yaml (`rekey provider show awsiam` says what it needs)"},
		"which account":        {twoAccounts, func(*api.ReportRequest, string) {}, "invalid: several accounts of this provider are configured: say which with --account: prod, test"},
		"account, near":        {twoAccounts, func(r *api.ReportRequest, _ string) { r.Account = "pord" }, `invalid: there is no such account of this provider: did you mean "prod"?`},
		"confidence":           {"", func(r *api.ReportRequest, c string) { r.Confidence = c }, "invalid: the confidence is not known: give one of sample, suspected, confirmed"},
		"exposure":             {"", func(r *api.ReportRequest, c string) { r.Exposure = c }, "invalid: the exposure is not known: give one of public, internal, private, unknown"},
		"severity":             {"", func(r *api.ReportRequest, c string) { r.Severity = c }, "invalid: the severity is not known: give one of critical, high, medium, low"},
		"source":               {"", func(r *api.ReportRequest, _ string) { r.Source = "Git Hub" }, "invalid: the source is not a name: write a short name in lower case, such as github or outsider"},
		"a long reason":        {"", func(r *api.ReportRequest, c string) { r.Reason = strings.Repeat(c, 200) }, "invalid: the reason is longer than 4000 bytes, or is not text: put the rest into an evidence file"},
		"not text":             {"", func(r *api.ReportRequest, _ string) { r.Reason = "\xff" }, "invalid: the reason is longer than 4000 bytes, or is not text: put the rest into an evidence file"},
		"claimed later":        {"", func(r *api.ReportRequest, _ string) { r.Claimed = t0.Add(time.Hour) }, "invalid: the claimed time is in the future: give the time since when the key is said to be out"},
		"secret not base64":    {"", func(r *api.ReportRequest, c string) { r.Secret = "!" + c }, "invalid: the secret cannot be read: give it in base64 (RFC 4648 section 4), without line breaks"},
		"secret too large":     {"", func(r *api.ReportRequest, _ string) { r.Secret = strings.Repeat("A", 100<<10) }, "invalid: the secret is larger than 64 KiB: give the secret alone"},
		"id as secret":         {"", func(r *api.ReportRequest, _ string) { r.Secret = b64(keyID) }, "invalid: the secret is the key id itself: give the secret that belongs to the key id, or leave it out"},
		"too many files": {"", func(r *api.ReportRequest, _ string) { r.Evidence = make([]api.EvidenceFile, 21) },
			"invalid: more than 20 evidence files: put them into one archive"},
		"file without a name": {"", func(r *api.ReportRequest, _ string) { r.Evidence = []api.EvidenceFile{{Data: "AAAA"}} },
			"invalid: an evidence file has no usable name: give each file a plain name"},
		"file not base64": {"", func(r *api.ReportRequest, c string) { r.Evidence = []api.EvidenceFile{{Name: "a", Data: "!" + c}} },
			"invalid: an evidence file cannot be read: give its bytes in base64"},
		"file too large": {"", func(r *api.ReportRequest, _ string) {
			r.Evidence = []api.EvidenceFile{{Name: "a", Data: strings.Repeat("A", 12<<20)}}
		}, "invalid: an evidence file is larger than 8 MiB: keep the part that shows the key"},
		"files too large": {"", func(r *api.ReportRequest, _ string) {
			f := api.EvidenceFile{Name: "a", Data: strings.Repeat("A", 9<<20)}
			r.Evidence = []api.EvidenceFile{f, f, f}
		}, "invalid: the evidence is larger than 16 MiB: keep the parts that show the key"},
		"two playbooks": {"", func(r *api.ReportRequest, _ string) { r.Playbook, r.PlaybookName = "x", "y" },
			"invalid: both a playbook's text and a playbook's name are given: give one of them"},
		"playbook, near": {"", func(r *api.ReportRequest, _ string) { r.PlaybookName = "aws-acess-key" },
			`invalid: there is no playbook of that name: did you mean "aws-access-key"?`},
		"playbook for another provider": {"providers: {vault: {main: {account_id: x}}}", func(r *api.ReportRequest, _ string) {
			r.Provider, r.Kind, r.KeyID, r.PlaybookName = "vault", "token", "accessor", "aws-access-key"
		}, "invalid: playbook aws-access-key is for awsiam/user-access-key|sts-session, the key is vault/token: leave the playbook out, and the first that matches is used"},
	} {
		t.Run(name, func(t *testing.T) {
			yaml := tt.yaml
			if yaml == "" {
				yaml = oneAccount
			}
			w := newWorld(t, yaml, nil)
			hidden := canary(t)
			r := request()
			tt.change(&r, hidden)
			_, err := w.Report(t.Context(), alice, r)
			require.EqualError(t, err, tt.want)
			var refused *intake.Refusal
			require.ErrorAs(t, err, &refused)
			require.Equal(t, intake.Malformed, refused.Kind)
			require.NotContains(t, err.Error()+w.log.String(), hidden[:16])
			require.Empty(t, w.engine.claims)
			require.Empty(t, w.engine.runs)
		})
	}
}
