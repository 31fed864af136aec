package audit_test

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/audit"
	"rekey/internal/audit/audittest"
)

func redact(t testing.TB, b []byte, audience string) []byte {
	t.Helper()
	var out bytes.Buffer
	_, err := audit.Redact(&out, bytes.NewReader(b), int64(len(b)), audience)
	require.NoError(t, err)
	return out.Bytes()
}

func TestRedact(t *testing.T) {
	s := signer(t)
	b, sealed := sample(t, s)
	events, _ := audittest.Sample()
	for audience, classes := range map[string][]string{
		audit.AudienceCustomer: {audit.Customer, audit.Public},
		audit.AudiencePublic:   {audit.Public},
	} {
		t.Run(audience, func(t *testing.T) {
			var want []audit.Event
			for _, e := range events {
				if slices.Contains(classes, e.Redaction) {
					want = append(want, e)
				}
			}
			require.NotEmpty(t, want)
			r := redact(t, b, audience)
			require.Equal(t, r, redact(t, b, audience), "the same bytes each time")

			res := verify(r, s.Key)
			require.Equal(t, audit.Verified, res.Result, res.Faults)
			require.Equal(t, sealed.Root, res.Root, "the tree of the full bundle")
			require.Equal(t, audit.ResultRedaction{Audience: audience, Hidden: int64(len(events) - len(want))}, res.Redaction)
			require.Contains(t, strings.Join(res.NotProved, "\n"), "hidden events")

			bundle, err := audit.Open(bytes.NewReader(r), int64(len(r)))
			require.NoError(t, err)
			got, hidden, err := bundle.Events()
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.Equal(t, res.Redaction.Hidden, hidden)
			require.Nil(t, bundle.View())
			for _, secret := range []string{"oncall-2", "C071 bounced", "already-voted", "1 key of the lost call", "#incidents-sec", "C0INCIDENTS", "example.slack.com", "issues:write", "is proven dead"} {
				require.True(t, bytes.Contains(b, []byte(secret)), secret)
				require.False(t, bytes.Contains(r, []byte(secret)), secret)
			}
			for _, name := range bundle.Names() {
				require.NotContains(t, name, "/", "plans, notices, chapters and pages stay inside")
			}
			line, proof, err := bundle.Proof(0)
			require.NoError(t, err)
			_, err = audit.CheckProof(line, proof, []string{s.Key})
			require.NoError(t, err, "proofs work on what is left")
		})
	}
}

func TestRedactRefuses(t *testing.T) {
	b, _ := sample(t, signer(t))
	customer := redact(t, b, audit.AudienceCustomer)
	changed := slices.Clone(b)
	changed[len(changed)/2] ^= 1
	tests := map[string]struct {
		bundle   []byte
		audience string
		want     string
	}{
		"unknown audience": {b, "press", "customer or public"},
		"twice":            {customer, audit.AudiencePublic, "already"},
		"tampered":         {changed, audit.AudiencePublic, "does not verify"},
		"no bundle":        {[]byte("x"), audit.AudiencePublic, "does not verify"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := audit.Redact(io.Discard, bytes.NewReader(tt.bundle), int64(len(tt.bundle)), tt.audience)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// TestRedactionCannotBeBent: who has the bundle but not the key cannot choose what
// to hide.
func TestRedactionCannotBeBent(t *testing.T) {
	s := signer(t)
	full, _ := sample(t, s)
	customer := redact(t, full, audit.AudienceCustomer)
	public := redact(t, full, audit.AudiencePublic)
	body := func(b []byte, name string) []byte {
		for _, m := range unzip(t, b) {
			if m.name == name {
				return m.body
			}
		}
		return nil
	}
	put := func(m []member, name string, b []byte) []member {
		m = append(slices.DeleteFunc(m, func(f member) bool { return f.name == name }), member{name, b})
		slices.SortFunc(m, func(a, b member) int { return strings.Compare(a.name, b.name) })
		return m
	}
	hideOne := func(b []byte) []byte {
		l := lines(b)
		for i, line := range l {
			if !strings.HasPrefix(line, `{"leaf"`) {
				l[i] = `{"leaf":"` + audit.Leaf([]byte(strings.TrimSuffix(line, "\n"))).String() + "\"}\n"
				return []byte(strings.Join(l, ""))
			}
		}
		return b
	}
	tests := map[string]struct {
		members []member
		code    string
	}{
		"one event more is hidden":          {edit(unzip(t, customer), "events.jsonl", hideOne), audit.RedactionDiffers},
		"a hidden event is shown":           {put(unzip(t, customer), "events.jsonl", body(full, "events.jsonl")), audit.RedactionDiffers},
		"public events under customer's":    {put(unzip(t, customer), "events.jsonl", body(public, "events.jsonl")), audit.RedactionDiffers},
		"the list of another audience":      {put(unzip(t, customer), "redaction.json", body(public, "redaction.json")), audit.RedactionDiffers},
		"the list is dropped":               {slices.DeleteFunc(unzip(t, customer), func(m member) bool { return m.name == "redaction.json" }), audit.RedactionDiffers},
		"another audience is claimed":       {edit(unzip(t, customer), "redaction.json", func(b []byte) []byte { return bytes.Replace(b, []byte(`"customer"`), []byte(`"public"`), 1) }), audit.RedactionDiffers},
		"a dropped file is back, changed":   {put(unzip(t, customer), "report.html", []byte("<p>all is well")), audit.ManifestDiffers},
		"a visible event is changed":        {edit(unzip(t, customer), "events.jsonl", func(b []byte) []byte { return bytes.Replace(b, []byte(`"refused"`), []byte(`"alive"`), 1) }), audit.EventChanged},
		"a leaf in place of a hidden event": {edit(unzip(t, customer), "events.jsonl", func(b []byte) []byte { return bytes.Replace(b, []byte(`{"leaf":"`), []byte(`{"leaf":"A`), 1)[:len(b)] }), audit.EventChanged},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			res := verify(rezip(tt.members), s.Key)
			require.Equal(t, audit.Failed, res.Result)
			require.Contains(t, codes(res), tt.code, res.Faults)
		})
	}
}
