package slack_test

import (
	"strings"
	"time"

	"rekey/activities/notify"
)

const incident = "inc-7f3a9c2e41d0"

var waveHash = "sha256:" + strings.Repeat("4be1", 16)

// hostile is what somebody may write as a reason, a name or a note.
const hostile = "<!channel> <@U024BE7LH> <#C024BE7LR|general> @here <https://evil.example/login|click> https://evil.example/x " +
	":white_check_mark: *all clear* ~not~ _x_ `code` ```x``` &lt;!here&gt; \u202egnp.exe\u2066 \x00\x1b[31m \u200b\u2028> quote"

func waiting() notify.Card {
	return notify.Card{
		Chat:     true,
		Incident: incident, Title: "Leaked AWS IAM user access key", Phase: "approve", State: "waiting", Severity: "critical",
		Key: "awsiam/prod user-access-key a41c09be77d2 AKIAIOSFODNN7EXAMPLE", Reporter: "github secret scanning", Opened: at,
		Scope: notify.Scope{Version: 2, Items: 3, Open: 3, Reachable: 5, Unseen: 1, Dark: 1},
		Steps: []notify.Count{{Name: "Revoke", N: 1}, {Name: "waiting", N: 2}},
		Dead:  []notify.Count{{Name: "A", N: 1}},
		Breaks: []notify.Break{
			{Dependent: "billing", Owner: "platform", Outage: 2 * time.Minute, Budget: 30 * time.Minute},
			{Dependent: "nightly-export", Outage: 45 * time.Minute, Budget: 30 * time.Minute},
		},
		Asks: []notify.Ask{
			{
				Approval: "a1", For: "strategy", What: "Issue new keys for 2 items, wait for cut-over, then disable the old ones.", Wave: 2, WaveHash: waveHash,
				Strategy: "reissue-first", Items: 2, Calls: 14, Roles: []string{"commander", "security"}, Needed: 2, Expires: at.Add(18 * time.Minute),
				Breaks: []notify.Break{
					{Dependent: "billing", Owner: "platform", Outage: 2 * time.Minute, Budget: 30 * time.Minute},
					{Dependent: "nightly-export", Outage: 45 * time.Minute, Budget: 30 * time.Minute},
				},
				Votes: []notify.Vote{{Actor: "oncall-1", Role: "commander", Vote: "approve", Auth: "slack"}},
			},
			{
				Approval: "a2", For: "irreversible", What: "Revoke the old key for good.", Wave: 1, WaveHash: "sha256:" + strings.Repeat("9c02", 16),
				Strategy: "revoke-now", Items: 1, Calls: 2, Roles: []string{"commander", "security"}, Needed: 2, Outside: 1, Expires: at.Add(48 * time.Minute),
			},
		},
		Tasks: []notify.Task{{ID: "h1", What: "Take the key out of the build image ami-0abc and relaunch", Owner: "platform", Due: at.Add(4 * time.Hour)}},
		Items: []notify.Item{
			{Short: "a41c09be77d2", Key: "AKIAIOSFODNN7EXAMPLE", Strategy: "revoke-now", Step: "Revoke", Death: "dead", Grade: "A", Adoption: "adopted", Waits: "votes"},
			{Short: "b52d10cf88e3", Key: "AKIAI44QH8DHBEXAMPLE", Strategy: "reissue-first", Step: "waiting", Death: "alive", Adoption: "waiting", Waits: "votes"},
			{Short: "c63e21d099f4", Key: "ASIAJ55RI9EICEXAMPLE", Strategy: "reissue-first", Step: "waiting", Death: "alive", Adoption: "waiting", Waits: "votes"},
		},
		UI: "http://127.0.0.1:8233/namespaces/rekey/workflows/incident%2F" + incident,
	}
}

func contained() notify.Card {
	c := waiting()
	c.State, c.Phase, c.Asks = "contained", "watch", nil
	c.Contained = at.Add(41 * time.Minute)
	c.Scope = notify.Scope{Version: 3, Items: 3, Open: 1, Reachable: 5}
	c.Steps, c.Breaks = nil, nil
	c.Dead = []notify.Count{{Name: "A", N: 2}, {Name: "B", N: 1}}
	c.Ends = []notify.Count{{Name: "customer-action-open", N: 1}, {Name: "revoked-verified", N: 2}}
	for i := range c.Items {
		c.Items[i].End, c.Items[i].Death, c.Items[i].Grade, c.Items[i].Adoption, c.Items[i].Waits = "revoked-verified", "dead", "A", "adopted", ""
	}
	c.Items[2].End, c.Items[2].Grade = "customer-action-open", "B"
	c.Tasks = []notify.Task{{ID: "h4", What: "Customer C033 confirms that the copy in its own pipeline is gone", Owner: "customer-success", Due: at.Add(72 * time.Hour)}}
	c.Bundle = "sha256:" + strings.Repeat("77aa", 16)
	return c
}
