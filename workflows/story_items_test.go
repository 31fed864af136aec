package workflows_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/playbooks"
	"rekey/workflows"
)

// What owners and customers were told, and what becomes of the replacements, is in
// the story and on the card: by ref, once, and never with an address.
func TestTheStoryTellsNoticesAndAdoption(t *testing.T) {
	p := &place{}
	w := newWorld(t, withMail(func(in workflows.SendInput) (workflows.SendResult, error) {
		if in.Contact.Order == 1 && in.Ref == "platform" {
			return refused(activities.ClassInvalid, "the address does not exist"), nil
		}
		return workflows.SendResult{}, nil
	}), func(w *world) {
		channels := w.set.Channels
		inChat(p)(w)
		w.set.Channels = append(channels, "slack")
	})
	w.used("AKIA-1", "billing")
	w.reported(0, "r1", "AKIA-1")
	w.approving("strategy", "irreversible")
	w.moves(time.Hour, "AKIA-1", "10.0.0.1")
	w.env.SetDetachedChildWait(true)
	v := w.run()
	require.Equal(t, "all-clear", v.State)
	p.inOrder(t, 1)

	notices := p.texts(notify.KindNotice)
	n := toldOf(t, v, "platform", 1)
	require.Equal(t, []string{n.ID + " is sent (warn, version 1): owner platform by email"}, notices)
	require.Equal(t, []notify.Count{{Name: "sent", N: 1}}, p.lastCard().Notices)
	adopted := strings.Join(p.texts(notify.KindAdopt), "\n")
	require.Equal(t, 1, strings.Count(adopted, " is distributed: "), adopted)
	require.Equal(t, 1, strings.Count(adopted, " is adopted: 1 of 1 dependent use it"), adopted)
	require.Less(t, strings.Index(adopted, "distributed"), strings.Index(adopted, "is adopted"))
	require.Contains(t, adopted, "NEW-AKIA-1, the replacement of awsiam/prod user-access-key AKIA-1")
	require.NotContains(t, strings.Join(p.texts(), "\n"), "@example.com")
	for _, c := range p.calls {
		if c.Update != nil {
			require.Equal(t, incidentID, c.Update.Marker, "as it was opened")
		}
	}
}

// The card says whether chat takes votes: where Slack is configured, and not while
// what it rests on is in scope.
func TestTheCardSaysWhereVotesAreTaken(t *testing.T) {
	for name, tt := range map[string]struct {
		opt  option
		chat bool
	}{
		"Slack":                           {func(*world) {}, true},
		"GitHub alone":                    {func(w *world) { w.set.Channels = []string{"github"} }, false},
		"Slack, with its ground in scope": {func(w *world) { w.set.VoteRests = map[string][]string{"slack": {"AKIA-1"}} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &place{}
			w := newWorld(t, inChat(p), func(w *world) {
				if tt.opt(w); w.set.Channels[0] == "github" {
					w.set.Playbook.Record = playbooks.Record{GitHub: &playbooks.RecordGitHub{Repo: "acme/security"}}
				}
			})
			w.used("AKIA-1", "billing")
			w.reported(0, "r1", "AKIA-1")
			w.until(time.Minute)
			w.run()
			require.NotEmpty(t, p.cards)
			require.Len(t, p.lastCard().Asks, 1)
			require.Equal(t, tt.chat, p.lastCard().Chat)
		})
	}
}
