package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/lab/awssim/policy"
)

func TestEvaluate(t *testing.T) {
	const (
		admin      = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
		denyAll    = `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`
		revokeOld  = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":["*"],"Resource":["*"],"Condition":{"DateLessThan":{"aws:TokenIssueTime":"2026-11-21T03:00:00.000Z"}}}]}`
		networkCut = `{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":["203.0.113.0/24"]},"BoolIfExists":{"aws:ViaAWSService":"false"}}}]}`
		readIAM    = `{"Statement":[{"Effect":"Allow","Action":["iam:List*","iam:Get?ser"],"Resource":"arn:aws:iam::111122223333:user/*"}]}`
		notEngine  = `{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:user/rekey-engine"}}}]}`
		notAction  = `{"Statement":[{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}]}`
		longTerm   = `{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Null":{"aws:TokenIssueTime":"true"}}}]}`
	)
	user := "arn:aws:iam::111122223333:user/ci"
	ask := func(action, resource string, ctx policy.Context) policy.Request {
		return policy.Request{Action: action, Resource: resource, Context: ctx}
	}
	tests := map[string]struct {
		docs []string
		ask  policy.Request
		want policy.Decision
	}{
		"nothing said":                     {nil, ask("iam:ListUsers", "*", nil), policy.ImplicitDeny},
		"admin":                            {[]string{admin}, ask("iam:CreateAccessKey", user, nil), policy.Allow},
		"deny wins over admin":             {[]string{admin, denyAll}, ask("iam:ListUsers", "*", nil), policy.ExplicitDeny},
		"deny wins in either order":        {[]string{denyAll, admin}, ask("iam:ListUsers", "*", nil), policy.ExplicitDeny},
		"old session refused":              {[]string{admin, revokeOld}, ask("iam:ListUsers", "*", policy.Context{"aws:tokenissuetime": "2026-11-21T02:59:59Z"}), policy.ExplicitDeny},
		"new session passes":               {[]string{admin, revokeOld}, ask("iam:ListUsers", "*", policy.Context{"aws:tokenissuetime": "2026-11-21T03:00:00Z"}), policy.Allow},
		"long-term key has no issue time":  {[]string{admin, revokeOld}, ask("iam:ListUsers", "*", nil), policy.Allow},
		"outside the range":                {[]string{admin, networkCut}, ask("s3:ListAllMyBuckets", "*", policy.Context{"aws:sourceip": "198.51.100.9"}), policy.ExplicitDeny},
		"inside the range":                 {[]string{admin, networkCut}, ask("s3:ListAllMyBuckets", "*", policy.Context{"aws:sourceip": "203.0.113.9"}), policy.Allow},
		"a service calls for the user":     {[]string{admin, networkCut}, ask("kms:Decrypt", "*", policy.Context{"aws:sourceip": "198.51.100.9", "aws:viaawsservice": "true"}), policy.Allow},
		"no source address: negated holds": {[]string{admin, networkCut}, ask("kms:Decrypt", "*", nil), policy.ExplicitDeny},
		"wildcards":                        {[]string{readIAM}, ask("iam:GetUser", user, nil), policy.Allow},
		"actions fold case":                {[]string{readIAM}, ask("IAM:listAccessKeys", user, nil), policy.Allow},
		"resources do not":                 {[]string{readIAM}, ask("iam:GetUser", "arn:aws:iam::111122223333:USER/ci", nil), policy.ImplicitDeny},
		"other resource":                   {[]string{readIAM}, ask("iam:GetUser", "arn:aws:iam::111122223333:role/x", nil), policy.ImplicitDeny},
		"everyone but the engine":          {[]string{admin, notEngine}, ask("iam:ListUsers", "*", policy.Context{"aws:principalarn": user}), policy.ExplicitDeny},
		"the engine":                       {[]string{admin, notEngine}, ask("iam:ListUsers", "*", policy.Context{"aws:principalarn": "arn:aws:iam::111122223333:user/rekey-engine"}), policy.Allow},
		"not action":                       {[]string{notAction}, ask("iam:ListUsers", "*", nil), policy.ImplicitDeny},
		"not action, other service":        {[]string{notAction}, ask("ec2:RunInstances", "*", nil), policy.Allow},
		"null: long-term keys only":        {[]string{admin, longTerm}, ask("iam:ListUsers", "*", nil), policy.ExplicitDeny},
		"null: sessions pass":              {[]string{admin, longTerm}, ask("iam:ListUsers", "*", policy.Context{"aws:tokenissuetime": "2026-11-21T03:00:00Z"}), policy.Allow},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var docs []*policy.Document
			for _, text := range tt.docs {
				d, err := policy.Parse(text)
				require.NoError(t, err)
				docs = append(docs, d)
			}
			require.Equal(t, tt.want, policy.Evaluate(docs, tt.ask))
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":              `{`,
		"no statement":          `{"Version":"2012-10-17"}`,
		"unknown element":       `{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Conditions":{}}]}`,
		"no effect":             `{"Statement":[{"Action":"*","Resource":"*"}]}`,
		"no action":             `{"Statement":[{"Effect":"Deny","Resource":"*"}]}`,
		"both actions":          `{"Statement":[{"Effect":"Deny","Action":"*","NotAction":"*","Resource":"*"}]}`,
		"no resource":           `{"Statement":[{"Effect":"Deny","Action":"*"}]}`,
		"operator not known":    `{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"NumericLessThan":{"aws:x":"1"}}}]}`,
		"action is a number":    `{"Statement":[{"Effect":"Deny","Action":1,"Resource":"*"}]}`,
		"condition not a table": `{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":"true"}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := policy.Parse(text)
			require.ErrorIs(t, err, policy.ErrMalformed)
		})
	}
}

func TestTrusts(t *testing.T) {
	doc, err := policy.Parse(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:user/ci","999988887777"]},"Action":"sts:AssumeRole"}]}`)
	require.NoError(t, err)
	got, named := policy.Trusts(doc, "arn:aws:iam::111122223333:user/ci", "111122223333", "sts:AssumeRole", nil)
	require.Equal(t, policy.Allow, got)
	require.True(t, named)
	got, _ = policy.Trusts(doc, "arn:aws:iam::111122223333:user/eve", "111122223333", "sts:AssumeRole", nil)
	require.Equal(t, policy.ImplicitDeny, got)
}

// FuzzMatch holds the linear matcher against the plain recursive definition.
func FuzzMatch(f *testing.F) {
	for _, s := range [][2]string{{"*", ""}, {"iam:*Key*", "iam:CreateAccessKey"}, {"a?c", "abc"}, {"**b", "ab"}, {"a*b*c", "aXbYb"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 12 || len(s) > 12 {
			t.Skip()
		}
		require.Equal(t, slow(pattern, s), policy.Match(pattern, s, false))
	})
}

func slow(p, s string) bool {
	switch {
	case p == "":
		return s == ""
	case p[0] == '*':
		return slow(p[1:], s) || s != "" && slow(p, s[1:])
	default:
		return s != "" && (p[0] == '?' || p[0] == s[0]) && slow(p[1:], s[1:])
	}
}

// FuzzParse: any text either parses or is malformed, and what parses can be evaluated.
func FuzzParse(f *testing.F) {
	f.Add(`{"Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}}}]}`)
	f.Add(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := policy.Parse(text)
		if err != nil {
			require.ErrorIs(t, err, policy.ErrMalformed)
			return
		}
		r := policy.Request{Action: "iam:ListUsers", Resource: "*", Context: policy.Context{"aws:sourceip": "198.51.100.1"}}
		if d.DeniesAll() {
			require.Equal(t, policy.ExplicitDeny, policy.Evaluate([]*policy.Document{d}, r))
		}
	})
}
