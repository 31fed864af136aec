package lab_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	trailtypes "github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/require"

	"rekey/internal/lab"
	"rekey/internal/lab/control"
	"rekey/internal/lab/labtest"
	"rekey/internal/lab/scenario"
)

// customers is a directory of six keys of three customers, each but the last used by an
// integration whose owner moves it over at a time of their own.
const customers = `
apiVersion: rekey/v1
kind: Drill
name: customers
seed: 5
clock: {t0: 2023-07-05T00:00:00Z, horizon: 96h}
estate:
  providers: {awsiam/lab: {propagation: 1s}}
  generate:
    - {kind: key, count: 6, id: "K{n:03}", user: "org-{n:03}", owner: "C{n/2:03}", policy: PowerUserAccess, where: directory, issued: T0-100d}
    - {kind: dependent, count: 6, except: [6], id: "I{n:03}", keys: ["K{n:03}"], owner: "C{n/2:03}", store: "K{n:03}", every: 30m, cutover: restart, past: {every: 4d, times: 22}, moves: {from: T0+1h, to: T0+6h}}
trigger: {at: T0, report: {provider: awsiam, key: K001, source: outsider}}
people: [{actor: oncall-1, roles: [commander], on: needs-human, match: rule/W1, do: resolve, first: {call: "events:DeleteRule", with: {Name: W1}}}]
faults:
  - {what: planted-persistence, key: K001, do: PutRule, where: W1, at: T0-5d, due: T0+4d}
  - {what: residual-session, key: K002, do: GetSessionToken, for: 24h, times: 2}
expect: [{id: any, expr: "true"}]
`

func TestGeneratedDependentsMoveAtTheirTime(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, customers))
	require.Len(t, l.Oracle(t).Dependents, 5)
	engine := config(l, l.Engine)
	issued := map[string]string{}
	for _, k := range []string{"001", "002", "005"} {
		made, err := iam.NewFromConfig(engine).CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: aws.String("org-" + k)})
		require.NoError(t, err)
		issued["I"+k] = *made.AccessKey.AccessKeyId
		_, err = secretsmanager.NewFromConfig(engine).PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: aws.String("K" + k),
			ClientRequestToken: aws.String("00000000-0000-4000-8000-000000000" + k),
			SecretString:       aws.String(`{"AccessKeyId":"` + *made.AccessKey.AccessKeyId + `","SecretAccessKey":"` + *made.AccessKey.SecretAccessKey + `"}`)})
		require.NoError(t, err)
	}
	moved := func() (out []string) {
		for _, d := range l.Oracle(t).Dependents {
			if d.OnKey == issued[d.ID] {
				out = append(out, d.ID)
			}
		}
		return out
	}
	advance(t, l, 59*time.Minute)
	require.Empty(t, moved(), "until then it goes on with the key it has")
	advance(t, l, 31*time.Minute)
	require.Equal(t, []string{"I001"}, moved())
	advance(t, l, time.Hour)
	require.Equal(t, []string{"I001", "I002"}, moved())
	advance(t, l, 2*time.Hour)
	require.Equal(t, []string{"I001", "I002"}, moved(), "I003 and I004 have moved, and nothing new was there for them")
	advance(t, l, 2*time.Hour)
	require.Equal(t, []string{"I001", "I002", "I005"}, moved())
}

func TestThePastOfADependentIsInTheLog(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, customers))
	c := cloudtrail.NewFromConfig(config(l, l.Engine))
	out, err := c.LookupEvents(t.Context(), &cloudtrail.LookupEventsInput{LookupAttributes: []trailtypes.LookupAttribute{
		{AttributeKey: trailtypes.LookupAttributeKeyAccessKeyId, AttributeValue: aws.String(l.Aliases["K003"])}}})
	require.NoError(t, err)
	require.Len(t, out.Events, 44, "22 times two calls")
	require.Equal(t, "2023-07-01T00:00:00Z", out.Events[0].EventTime.Format(time.RFC3339))
	require.Equal(t, "2023-04-08T00:00:00Z", out.Events[43].EventTime.Format(time.RFC3339))
	out, err = c.LookupEvents(t.Context(), &cloudtrail.LookupEventsInput{LookupAttributes: []trailtypes.LookupAttribute{
		{AttributeKey: trailtypes.LookupAttributeKeyAccessKeyId, AttributeValue: aws.String(l.Aliases["K006"])}}})
	require.NoError(t, err)
	require.Empty(t, out.Events, "nobody uses it")
}

func TestAPlantedJobRunsUnlessItIsFound(t *testing.T) {
	for name, found := range map[string]bool{"found": true, "not found": false} {
		t.Run(name, func(t *testing.T) {
			l := labtest.Start(t, labtest.Scenario(t, customers))
			before := l.Oracle(t)
			require.Len(t, before.Rules, 1)
			require.Equal(t, l.Aliases["K001"], before.Rules[0].By)
			require.Len(t, before.Sessions, 2)
			require.Equal(t, 24*time.Hour, before.Sessions[1].Expires.Sub(before.Sessions[1].Issued.Time))
			out, err := cloudtrail.NewFromConfig(config(l, l.Engine)).LookupEvents(t.Context(), &cloudtrail.LookupEventsInput{LookupAttributes: []trailtypes.LookupAttribute{
				{AttributeKey: trailtypes.LookupAttributeKeyEventName, AttributeValue: aws.String("PutRule")}}})
			require.NoError(t, err)
			require.Contains(t, *out.Events[0].CloudTrailEvent, before.Rules[0].ARN)
			if found {
				require.NoError(t, l.Control.Act(t.Context(), control.Act{Call: "events:DeleteRule", With: map[string]string{"Name": "W1"}, Source: "person/oncall-1"}))
				require.Empty(t, l.Oracle(t).Rules)
			}
			advance(t, l, 4*24*time.Hour)
			o := l.Oracle(t)
			require.True(t, o.Jobs[0].Over)
			minted := 0
			for _, k := range o.Keys {
				if k.MintedBy == "malicious" && k.User == "org-001" {
					minted++
				}
			}
			require.Equal(t, found, o.Jobs[0].Ran == nil)
			require.Equal(t, found, minted == 0)
		})
	}
}

func TestNobodyActsInADrillWithoutPeopleWhoDo(t *testing.T) {
	l := drill(t, "", "")
	require.ErrorContains(t, l.Control.Act(t.Context(), control.Act{Call: "events:DeleteRule"}), "nobody in this drill acts")
	l = labtest.Start(t, labtest.Scenario(t, customers))
	require.ErrorContains(t, l.Control.Act(t.Context(), control.Act{Call: "iam:DeleteUser", With: map[string]string{"UserName": "nobody"}}), "NoSuchEntity")
}

// TestLookUpByEveryAttribute: what is found by an index and what is found by a walk agree.
func TestLookUpByEveryAttribute(t *testing.T) {
	l := labtest.Start(t, labtest.Scenario(t, customers))
	engine := config(l, l.Engine)
	for _, k := range []string{"001", "002"} {
		_, err := iam.NewFromConfig(engine).ListAccessKeys(t.Context(), &iam.ListAccessKeysInput{UserName: aws.String("org-" + k)})
		require.NoError(t, err)
	}
	_, err := iam.NewFromConfig(engine).DeleteAccessKey(t.Context(), &iam.DeleteAccessKeyInput{UserName: aws.String("org-002"), AccessKeyId: aws.String(l.Aliases["K002"])})
	require.NoError(t, err)
	c := cloudtrail.NewFromConfig(engine)
	find := func(key trailtypes.LookupAttributeKey, value string) (out []trailtypes.Event) {
		in := &cloudtrail.LookupEventsInput{MaxResults: aws.Int32(3)}
		if key != "" {
			in.LookupAttributes = []trailtypes.LookupAttribute{{AttributeKey: key, AttributeValue: aws.String(value)}}
		}
		for {
			page, err := c.LookupEvents(t.Context(), in)
			require.NoError(t, err)
			out = append(out, page.Events...)
			if in.NextToken = page.NextToken; in.NextToken == nil {
				return out
			}
		}
	}
	// Before anything is asked, which leaves events of its own.
	all := find("", "")
	by := func(is func(trailtypes.Event) bool) (out []string) {
		for _, e := range all {
			if is(e) && *e.EventName != "LookupEvents" {
				out = append(out, *e.EventId)
			}
		}
		return out
	}
	resource := func(e trailtypes.Event, is func(trailtypes.Resource) bool) bool {
		for _, r := range e.Resources {
			if is(r) {
				return true
			}
		}
		return false
	}
	one := by(func(e trailtypes.Event) bool { return *e.EventName == "DeleteAccessKey" })[0]
	for _, tt := range []struct {
		key   trailtypes.LookupAttributeKey
		value string
		is    func(trailtypes.Event) bool
		some  int
	}{
		{"AccessKeyId", l.Aliases["K004"], func(e trailtypes.Event) bool { return *e.AccessKeyId == l.Aliases["K004"] }, 44},
		{"EventName", "ListAccessKeys", func(e trailtypes.Event) bool { return *e.EventName == "ListAccessKeys" }, 2},
		{"EventSource", "iam.amazonaws.com", func(e trailtypes.Event) bool { return *e.EventSource == "iam.amazonaws.com" }, 3},
		{"Username", "org-005", func(e trailtypes.Event) bool { return aws.ToString(e.Username) == "org-005" }, 44},
		{"ReadOnly", "false", func(e trailtypes.Event) bool { return *e.ReadOnly == "false" }, 4}, // PutRule, two sessions, the delete
		{"ResourceName", "org-002", func(e trailtypes.Event) bool {
			return resource(e, func(r trailtypes.Resource) bool { return *r.ResourceName == "org-002" })
		}, 2},
		{"ResourceType", "AWS::IAM::AccessKey", func(e trailtypes.Event) bool {
			return resource(e, func(r trailtypes.Resource) bool { return *r.ResourceType == "AWS::IAM::AccessKey" })
		}, 1},
		{"EventId", one, func(e trailtypes.Event) bool { return *e.EventId == one }, 1},
	} {
		t.Run(string(tt.key), func(t *testing.T) {
			var got []string
			for _, e := range find(tt.key, tt.value) {
				if *e.EventName != "LookupEvents" {
					got = append(got, *e.EventId)
				}
			}
			require.Equal(t, by(tt.is), got)
			require.Len(t, got, tt.some)
		})
	}
}

func TestScaleRefusesWhatItWouldMakeTwice(t *testing.T) {
	two := strings.Replace(customers, "generate:", "generate:\n    - {kind: key, count: 3, from: 7, id: \"K{n:03}\", user: \"more-{n}\"}", 1)
	d := labtest.Scenario(t, two)
	_, err := newLab(t, d, 2)
	require.ErrorContains(t, err, "at scale 2 key K007 is made twice")
	s, err := newLab(t, d, 1)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, s.Run(ctx), "and it is closed again")
}

func newLab(t *testing.T, d *scenario.Drill, scale int) (*lab.Server, error) {
	t.Helper()
	return lab.New(lab.Options{Dir: t.TempDir(), Scenario: d, Scale: scale})
}
