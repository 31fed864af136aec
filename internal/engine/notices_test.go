package engine

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/internal/blob"
	"rekey/internal/codec/keyring"
	"rekey/internal/config"
	"rekey/internal/estate"
	"rekey/internal/notice"
	"rekey/internal/view"
	"rekey/playbooks"
	"rekey/workflows"
)

// telling is an engine over files of an owner and a customer.
func telling(t *testing.T) *Engine {
	t.Helper()
	dir := t.TempDir()
	owners, customers := filepath.Join(dir, "e.yaml"), filepath.Join(dir, "c.json")
	require.NoError(t, os.WriteFile(owners, []byte("owners: [{ref: web, contacts: [{order: 2, channel: email, address: b@example.com}, {order: 1, channel: email, address: a@example.com}]}, {ref: silent}]"), 0o600))
	require.NoError(t, os.WriteFile(customers, []byte(`[{"ref":"C033","name":"n","keys":[],"contract_hours":24,"contacts":[{"order":1,"channel":"webhook","address":"https://hooks.example/x"}]}]`), 0o600))
	keys, err := keyring.Open(keyring.Options{Dir: filepath.Join(dir, "keys"), Create: true, Now: time.Now})
	require.NoError(t, err)
	blobs, err := blob.OpenDir(filepath.Join(dir, "blobs"), keys)
	require.NoError(t, err)
	cfg := &config.Config{}
	cfg.Channels.Email.From = "security@example.org"
	return New(Options{Config: cfg, Blobs: blobs, Contacts: func() (*estate.Directory, error) {
		return estate.LoadDirectory([]string{owners}, []string{customers})
	}})
}

func order(class string, r ...workflows.NoticeRecipient) workflows.RenderInput {
	in := workflows.RenderInput{Incident: "inc-1", Now: now, Order: workflows.NoticeOrder{
		Class: class, Title: "Leaked key", Exposure: "public", Since: now.Add(-time.Hour), Cutoff: now.Add(24 * time.Hour), Recipients: r,
	}}
	for range r {
		in.IDs = append(in.IDs, "inc-1-n1-1")
	}
	return in
}

func recipient(audience, ref string, channels ...string) workflows.NoticeRecipient {
	return workflows.NoticeRecipient{
		Audience: audience, Ref: ref, Template: map[string]string{"owner": "key-owner", "customer": "customer-key"}[audience], Channels: channels, Version: 1,
		Items: []workflows.NoticeItem{{Key: activities.Key{Provider: "awsiam", Account: "prod", Kind: "user-access-key", ID: "AKIAIOSFODNN7EXAMPLE"}, NewKeyID: "AKIAI44QH8DHBEXAMPLE", Stores: []string{"awssm: web/aws"}}},
	}
}

func TestRenderSaysByWhichContactsAMessageCanGo(t *testing.T) {
	e := telling(t)
	in := order(notice.Warn, recipient("owner", "web", "email"), recipient("customer", "C033", "email", "webhook"),
		recipient("customer", "C033", "email"), recipient("owner", "silent", "email"), recipient("owner", "nobody", "email"))
	out, err := e.Render(context.Background(), in)
	require.NoError(t, err)
	require.Len(t, out.Messages, 5)
	for _, m := range out.Messages {
		require.NotEmpty(t, m.Text, m.Why)
	}
	require.Equal(t, []workflows.Contact{{Order: 1, Channel: "email"}, {Order: 2, Channel: "email"}}, out.Messages[0].Contacts, "in their order")
	require.Equal(t, []workflows.Contact{{Order: 1, Channel: "webhook"}}, out.Messages[1].Contacts)
	require.Equal(t, 24, out.Messages[1].ContractHours)
	for i := 2; i < 5; i++ {
		require.Empty(t, out.Messages[i].Contacts)
		require.NotEmpty(t, out.Messages[i].Why, "a person is told why it is theirs to do")
	}
	raw, err := json.Marshal(out)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "example.com", "no address goes into the history")
	require.NotContains(t, string(raw), "hooks.example")

	again, err := e.Render(context.Background(), in)
	require.NoError(t, err)
	require.Equal(t, out, again, "the same order is the same message under the same hash")

	text, err := e.NoticeText(context.Background(), workflows.NoticeTextInput{Text: out.Messages[0].Text})
	require.NoError(t, err)
	for _, want := range []string{"Leaked key (exposure: public)", "AKIAIOSFODNN7EXAMPLE", "still works", "replacement: AKIAI44QH8DHBEXAMPLE", "awssm: web/aws", "2026-03-11T12:00:00", "security@example.org"} {
		require.Contains(t, text.Text, want)
	}
}

func TestRenderOfACutSaysSinceWhenAndUrges(t *testing.T) {
	e := telling(t)
	r := recipient("owner", "web", "email")
	r.Items[0].Cut, r.Items[0].Promoted, r.Version = now, true, 2
	out, err := e.Render(context.Background(), order(notice.Cut, r))
	require.NoError(t, err)
	text, err := e.NoticeText(context.Background(), workflows.NoticeTextInput{Text: out.Messages[0].Text})
	require.NoError(t, err)
	for _, want := range []string{"refused since 2026-03-10T12:00:00", "because abuse was seen", "What you must do, now", "version 2"} {
		require.Contains(t, text.Text, want)
	}
	require.NotContains(t, text.Text, "still works")
}

func TestAMessageThatCannotBeWrittenIsAPersons(t *testing.T) {
	for name, spoil := range map[string]func(*Engine, *workflows.RenderInput){
		"nobody to ask":         func(e *Engine, _ *workflows.RenderInput) { e.Config.Channels.Email.From = "" },
		"no cause":              func(_ *Engine, in *workflows.RenderInput) { in.Order.Title, in.Order.Exposure = "", "" },
		"no time":               func(_ *Engine, in *workflows.RenderInput) { in.Order.Since = time.Time{} },
		"no such template":      func(_ *Engine, in *workflows.RenderInput) { in.Order.Recipients[0].Template = "poem" },
		"a fact that is a line": func(_ *Engine, in *workflows.RenderInput) { in.Order.Title = "a\r\nBcc: b" },
	} {
		t.Run(name, func(t *testing.T) {
			e := telling(t)
			in := order(notice.Warn, recipient("owner", "web", "email"))
			spoil(e, &in)
			out, err := e.Render(context.Background(), in)
			require.NoError(t, err)
			require.Empty(t, out.Messages[0].Text)
			require.Empty(t, out.Messages[0].Contacts, "without a text no channel is tried")
			require.NotEmpty(t, out.Messages[0].Why)
		})
	}
}

func TestRenderWaitsForFilesThatAreWrong(t *testing.T) {
	e := telling(t)
	broken := errors.New("customers c.json:1: mend it")
	e.Contacts = func() (*estate.Directory, error) { return nil, broken }
	_, err := e.Render(context.Background(), order(notice.Warn, recipient("owner", "web", "email")))
	require.ErrorIs(t, err, broken, "an error is repeated by Temporal until the files are mended")
}

func TestTheBundleHasWhatWasSaid(t *testing.T) {
	e := telling(t)
	out, err := e.Render(context.Background(), order(notice.Warn, recipient("owner", "web", "email")))
	require.NoError(t, err)
	got, err := e.sentNotices(context.Background(), []view.Notice{{ID: "inc-1-n1-1", Text: out.Messages[0].Text}, {ID: "inc-1-n1-2"}})
	require.NoError(t, err)
	require.Len(t, got, 1, "one that was never written has no text")
	require.Equal(t, out.Messages[0].Text, blob.Hash(got["inc-1-n1-1.json"]))
	_, err = e.sentNotices(context.Background(), []view.Notice{{ID: "x", Text: blob.Hash([]byte("gone"))}})
	require.ErrorContains(t, err, "notice x for the bundle")
	_, err = e.NoticeText(context.Background(), workflows.NoticeTextInput{Text: blob.Hash([]byte("gone"))})
	require.Error(t, err)
}

func TestOnlyAPlanThatTellsCustomersNamesTheirFiles(t *testing.T) {
	e := telling(t)
	none, err := e.customersDigest(workflows.PlanInput{Playbook: playbooks.Playbook{Notices: []playbooks.Notice{{Audience: playbooks.AudienceOwner}}}})
	require.NoError(t, err)
	require.Empty(t, none)
	some, err := e.customersDigest(workflows.PlanInput{Playbook: playbooks.Playbook{Notices: []playbooks.Notice{{Audience: playbooks.AudienceCustomer}}}})
	require.NoError(t, err)
	dir, err := e.Contacts()
	require.NoError(t, err)
	require.Equal(t, dir.Digest, some)
	require.Contains(t, dir.Files, some, "what it names is kept")
}
