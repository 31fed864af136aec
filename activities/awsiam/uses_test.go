package awsiam

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
)

var t0 = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

const inspected = "AKIAIOSFODNN7EXAMPLE"

func ev(at time.Time, source, agent, name string) event {
	e := event{ID: fmt.Sprint(at.UnixNano(), name, source), Time: at, Name: name, Service: "ec2.amazonaws.com", Source: source, Agent: agent}
	e.Who.Key = inspected
	return e
}

// daily is one call a day from..to days before t0, newest first.
func daily(from, to int, source, agent, name string) []event {
	var out []event
	for d := to; d <= from; d++ {
		out = append(out, ev(t0.AddDate(0, 0, -d), source, agent, name))
	}
	return out
}

func TestUsesTellAbuseApart(t *testing.T) {
	office := activities.Caller{Network: "198.51.100.0/24", Who: "office"}
	ci := activities.Caller{Network: "198.51.100.0/24", Agent: "Terraform/", Who: "ci"}
	since := t0.Add(-retention)
	created := t0.AddDate(0, 0, -60)
	attack := ev(t0.Add(-time.Hour), "203.0.113.9", "aws-cli/2.1", "CreateAccessKey")
	recon := ev(t0.Add(-time.Hour), "203.0.113.9", "aws-cli/2.1", "DescribeInstances")
	refused := daily(60, 30, "198.51.100.7", "Boto3/1.0", "DescribeInstances")
	refused[3].Error = "AccessDenied"
	grown := daily(60, 1, "198.51.100.7", "Boto3/1.0", "DescribeInstances")
	grown[0].Name = "GetSecretValue"
	probe := ev(t0, "203.0.113.9", "rekey/1 rekey-incident/inc-1 aws-sdk", "GetCallerIdentity")
	spoofed := ev(t0, "203.0.113.9", "rekey/1 rekey-incident/inc-1 aws-sdk", "CreateUser")

	tests := map[string]struct {
		known     []activities.Caller
		events    []event
		label     string // of the newest group
		malicious bool
		why       string
	}{
		"a known network":                              {[]activities.Caller{office}, []event{ev(t0, "198.51.100.7", "x", "DescribeInstances")}, activities.UseKnown, false, "matches a known caller"},
		"a stranger beside known callers":              {[]activities.Caller{office}, []event{recon}, activities.UseNew, false, "matches no known caller"},
		"a stranger who makes a key":                   {[]activities.Caller{office}, []event{attack}, activities.UseNew, true, "CreateAccessKey from a source"},
		"nothing is known, so nothing is called clean": {nil, []event{recon}, activities.UseUnknown, false, "what is normal"},
		"nor called malicious":                         {nil, []event{attack}, activities.UseUnknown, false, "what is normal"},
		"a hostile call from a known network alone":    {[]activities.Caller{office}, []event{ev(t0, "198.51.100.7", "x", "CreateUser")}, activities.UseUnknown, false, "needs somebody's word"},
		"a hostile call of a caller known in full":     {[]activities.Caller{ci}, []event{ev(t0, "198.51.100.7", "Terraform/1.9", "CreateUser")}, activities.UseKnown, false, "matches"},
		"regular from the first days":                  {nil, daily(60, 1, "198.51.100.7", "Boto3/1.0", "DescribeInstances"), activities.UseKnown, false, "not confirmed"},
		"regular, but it began late":                   {nil, daily(30, 1, "198.51.100.7", "Boto3/1.0", "DescribeInstances"), activities.UseUnknown, false, "it began 30 days after"},
		"regular, but something was refused":           {nil, refused, activities.UseUnknown, false, "what is normal"},
		"regular, but a call is new":                   {nil, grown, activities.UseUnknown, false, "what is normal"},
		"a stranger beside a pattern":                  {nil, append([]event{attack}, daily(60, 1, "198.51.100.7", "Boto3/1.0", "DescribeInstances")...), activities.UseNew, true, "CreateAccessKey"},
		"an agent that only claims to be rekey":        {[]activities.Caller{office}, []event{spoofed}, activities.UseNew, true, "CreateUser"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := uses(baseline{known: tt.known, created: created, since: since}, tt.events)
			require.NotEmpty(t, got)
			require.Equal(t, tt.label, got[0].Label, got[0].Why)
			require.Equal(t, tt.malicious, got[0].Malicious)
			require.Contains(t, got[0].Why, tt.why)
		})
	}
	require.Empty(t, uses(baseline{}, []event{probe}), "rekey's own probes are no uses")
}

func TestUsesAreGrouped(t *testing.T) {
	a := ev(t0, "192.0.2.1", "aws-cli/2.15.3 Python/3.11", "CopySnapshot")
	b := ev(t0.Add(-time.Hour), "192.0.2.1", "aws-cli/2.9", "DescribeSnapshots")
	b.Error = "AccessDenied"
	got := uses(baseline{}, []event{a, b, ev(t0.Add(-2*time.Hour), "192.0.2.2", "aws-cli/2.9", "CopySnapshot")})
	require.Len(t, got, 2)
	require.Equal(t, activities.Use{First: b.Time, Last: a.Time, Count: 2, Refused: 1, Source: "192.0.2.1", Agent: "aws-cli",
		Calls: []string{"ec2:CopySnapshot", "ec2:DescribeSnapshots"}, Label: activities.UseUnknown, Why: got[0].Why}, got[0])
}

func TestHitsNameTheCopy(t *testing.T) {
	e := ev(t0, "192.0.2.1", "aws-sdk-go/1.0 app/ami/AMI-7 lang/go", "DescribeInstances")
	e.Error = "InvalidClientTokenId"
	got := hits([]event{e, ev(t0, "192.0.2.2", "curl", "ListUsers")}, inspected)
	require.Len(t, got, 2)
	require.Equal(t, []string{"192.0.2.2", "ami/AMI-7"}, []string{got[0].Source, got[1].Source})
	require.EqualValues(t, 1, got[1].Refused)
}

func TestFindings(t *testing.T) {
	made := func(name string, response, request map[string]any) event {
		e := ev(t0, "192.0.2.1", "x", name)
		e.Response, e.Request = response, request
		return e
	}
	failed := made("CreateUser", nil, map[string]any{"userName": "nobody"})
	failed.Error = "AccessDenied"
	events := []event{
		made("CreateAccessKey", map[string]any{"accessKey": map[string]any{"accessKeyId": "AKIAI44QH8DHBEXAMPLE", "userName": "backdoor"}}, nil),
		made("AssumeRole", map[string]any{"credentials": map[string]any{"accessKeyId": "ASIAI44QH8DHBEXAMPLE", "expiration": "Nov 21, 2026 4:00:00 AM"}}, map[string]any{"roleArn": "arn:aws:iam::123456789012:role/path/deploy"}),
		made("RunInstances", map[string]any{"instancesSet": map[string]any{"items": []any{map[string]any{"instanceId": "i-1"}}}}, nil),
		made("PutUserPolicy", nil, map[string]any{"userName": "backdoor", "policyName": "all"}),
		failed, made("DescribeInstances", nil, nil),
	}
	got := findings(events, "prod", []string{inspected}, inspected)
	what := map[string]activities.Finding{}
	for _, f := range got {
		what[f.What] = f
		require.Contains(t, f.Why, "made by compromised key "+inspected)
	}
	require.Len(t, got, 4)
	require.Equal(t, &activities.Key{Provider: Code, Account: "prod", Kind: KindUser, ID: "AKIAI44QH8DHBEXAMPLE", Principal: "backdoor"}, what["key"].Key)
	require.Equal(t, "role/deploy", what["session"].Key.Principal)
	require.Equal(t, t0.Add(time.Hour), what["session"].Expires)
	require.Equal(t, "i-1", what["other"].ID)
	require.Equal(t, "all", what["policy"].ID)
}

func TestAdmin(t *testing.T) {
	doc := func(s string) document {
		d, err := parseDocument(s)
		require.NoError(t, err)
		return d
	}
	allow := func(action, resource string) document {
		return doc(fmt.Sprintf(`{"Statement":{"Effect":"Allow","Action":%s,"Resource":%q}}`, action, resource))
	}
	tests := map[string]struct {
		docs, boundary []document
		want           bool
	}{
		"everything":                        {[]document{allow(`"*"`, "*")}, nil, true},
		"iam":                               {[]document{allow(`["s3:Get*","iam:*"]`, "*")}, nil, true},
		"a way up":                          {[]document{allow(`"iam:putuserpolicy"`, "arn:aws:iam::123456789012:user/*")}, nil, true},
		"a way up on itself alone":          {[]document{allow(`"iam:PutUserPolicy"`, "arn:aws:iam::123456789012:user/ci")}, nil, false},
		"all but iam":                       {[]document{doc(`{"Statement":[{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}]}`)}, nil, true},
		"reads":                             {[]document{allow(`["iam:Get*","iam:List*","ec2:*"]`, "*")}, nil, false},
		"a bucket":                          {[]document{allow(`"*"`, "arn:aws:s3:::bucket/*")}, nil, false},
		"denied again":                      {[]document{allow(`"*"`, "*"), doc(`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`)}, nil, false},
		"denied on a condition":             {[]document{allow(`"*"`, "*"), doc(`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"a":"b"}}}}`)}, nil, true},
		"bounded":                           {[]document{allow(`"*"`, "*")}, []document{allow(`"s3:*"`, "*")}, false},
		"bounded by nothing that hinders":   {[]document{allow(`"*"`, "*")}, []document{allow(`"*"`, "*")}, true},
		"allowed on a condition counts yes": {[]document{doc(`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"a":true}}}}`)}, nil, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.want, admin(tt.docs, tt.boundary)) })
	}
}

func TestBorderIsOursOrNone(t *testing.T) {
	ours, err := parseDocument(denyAll("RekeySessions", map[string]map[string]values{"DateLessThan": {keyIssued: {"2026-11-21T03:00:00Z"}}}))
	require.NoError(t, err)
	require.Equal(t, t0, border(ours))
	for _, weaker := range []string{
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-11-21T03:00:00Z"}}}}`,
		`{"Statement":{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-11-21T03:00:00Z"}}}}`,
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-11-21T03:00:00Z"},"Bool":{"aws:x":"y"}}}}`,
	} {
		d, err := parseDocument(weaker)
		require.NoError(t, err)
		require.True(t, border(d).IsZero(), weaker)
	}
}
