// Package awsiam kills, replaces and watches AWS access keys: the long-term keys
// of IAM users and the STS sessions that outlive them.
//
// # How it is built
//
// Open makes no call; every verb is a method of [Client] in a file of its own.
// All calls go through one transport (transport.go), which keeps what evidence
// needs (status, request id, error code), refuses answers that are not AWS's,
// and drops everything else; all failures are classed in one place (faults.go).
// The SDK's own retries are off: each attempt belongs in the journal.
//
// A new verb or kind begins in [Provider]; the contract test of activities/all
// says what is still missing. Facts about AWS stand beside the code with their
// source.
package awsiam

import (
	_ "embed"
	"time"

	"rekey/activities"
)

// Code is the provider's code. It is written into histories: never rename it.
const Code = "awsiam"

// StoreSecretsManager is the Distribute target "AWS Secrets Manager".
const StoreSecretsManager = "awssm"

// propagation is how long a change at IAM takes to be seen everywhere: deletes
// and denies were measured at 3-4 s (https://www.isecurify.co/?p=2472), new keys
// at 10-15 s (https://github.com/aws/aws-sdk-js/issues/559); the larger counts.
const propagation = 15 * time.Second

// The names of the rate limits that verbs count against.
const (
	apiIAM   = "iam"
	apiTrail = "cloudtrail:LookupEvents"
	apiSTS   = "sts"
	apiSM    = "secretsmanager"
)

//go:embed policy-read.json
var readPolicy string

//go:embed policy-write.json
var writePolicy string

// Provider describes AWS IAM and opens its accounts.
//
// Settings of an account: account_id (12 digits, required), base_url (one
// endpoint for all services, for moto and the lab), timeout (Go duration of one
// exchange), rate.cloudtrail ("2/s"). Credentials: access_key_id,
// secret_access_key and, for a temporary credential, session_token.
func Provider() activities.Provider {
	return activities.Provider{Descriptor: descriptor(), Open: open, Origin: Origin}
}

func descriptor() activities.Descriptor {
	return activities.Descriptor{
		Code: Code,
		Name: "AWS IAM",
		Docs: "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html",
		Kinds: []activities.KindInfo{
			{
				Kind: KindUser, Recogniser: "AKIA + 16", Pattern: patternUser,
				Propagation: propagation, SessionsOutlive: true,
				ProbeWithoutSecret: true, IDSuffices: true, ProbeAction: "iam:GetUser",
				Verbs: userVerbs(),
			},
			{
				Kind: KindSession, Recogniser: "ASIA + 16", Pattern: patternSession,
				Propagation: propagation, SessionsOutlive: true,
				ProbeWithoutSecret: false, IDSuffices: true, ProbeAction: "iam:GetUser",
				Verbs: sessionVerbs(),
			},
		},
		Limits: []activities.Limit{
			// LookupEvents: "two requests per second, per account, per Region",
			// https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html
			{API: apiTrail, Rate: "2/s", Per: "account+region", Value: 2},
			// IAM publishes none; 15/s is what a quiet account was seen to take.
			{API: apiIAM, Rate: "15/s", Per: "account", Value: 15},
			// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: 600/s
			{API: apiSTS, Rate: "600/s", Per: "account+region", Value: 600},
			// PutSecretValue 50/s; one version of one secret at most every 10 minutes,
			// https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html
			{API: apiSM, Rate: "50/s", Per: "account+region", Value: 50},
		},
		ReadPolicy:  readPolicy,
		WritePolicy: writePolicy,
		Secrets:     secretPatterns,
		CheckID:     CheckID,
		Stores:      []string{StoreSecretsManager},
		RungVerbs: map[string]activities.Verb{
			"sessions": activities.EndSessions, "principal": activities.Deny, "network-bind": activities.Bind,
		},
	}
}

func userVerbs() map[activities.Verb]activities.VerbInfo {
	v := sessionVerbs()
	v[activities.Disable] = activities.VerbInfo{
		Support: activities.ByAPI, Reversible: true, Idempotent: true, Proof: activities.ForeignServer, API: apiIAM,
		Permissions: []string{"iam:UpdateAccessKey", "iam:GetAccessKeyLastUsed"},
		Calls:       []string{"iam:UpdateAccessKey"},
	}
	v[activities.Restore] = activities.VerbInfo{
		Support: activities.ByAPI, Reversible: true, Idempotent: true, Proof: activities.ForeignServer, API: apiIAM,
		Permissions: []string{"iam:PutUserPolicy", "iam:GetUserPolicy", "iam:UpdateAccessKey"},
		Calls:       []string{"iam:PutUserPolicy", "iam:GetUserPolicy", "iam:UpdateAccessKey"},
	}
	v[activities.Revoke] = activities.VerbInfo{
		Support: activities.ByAPI, Idempotent: true, Proof: activities.ForeignServer, API: apiIAM,
		Permissions: []string{"iam:DeleteAccessKey", "iam:GetAccessKeyLastUsed"},
		Calls:       []string{"iam:DeleteAccessKey"},
	}
	v[activities.Issue] = activities.VerbInfo{
		Support: activities.ByAPI, Proof: activities.ForeignServer, API: apiIAM,
		Permissions: []string{"iam:CreateAccessKey", "iam:ListAccessKeys", "iam:UpdateAccessKey", "iam:DeleteAccessKey", "cloudtrail:LookupEvents"},
		Calls:       []string{"iam:ListAccessKeys", "iam:CreateAccessKey"},
	}
	v[activities.Distribute] = activities.VerbInfo{
		Support: activities.ByAPI, Idempotent: true, Proof: activities.ForeignServer, API: apiSM,
		Permissions: []string{"secretsmanager:PutSecretValue", "secretsmanager:DescribeSecret", "secretsmanager:UpdateSecretVersionStage", "kms:GenerateDataKey"},
		Calls:       []string{"secretsmanager:PutSecretValue", "secretsmanager:DescribeSecret", "secretsmanager:UpdateSecretVersionStage"},
	}
	probe := v[activities.Probe]
	probe.Permissions = []string{"iam:ListAccessKeys"}
	probe.Calls = []string{"sts:GetCallerIdentity", "iam:GetUser", "iam:ListAccessKeys"}
	v[activities.Probe] = probe
	return v
}

// sessionVerbs are the verbs that work on the principal and so on both kinds. A
// session cannot be switched off or deleted: STS has no call for it
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_disable-perms.md).
func sessionVerbs() map[activities.Verb]activities.VerbInfo {
	return map[activities.Verb]activities.VerbInfo{
		activities.Inspect: {
			// The IAM part is proven against moto. CloudTrail look-ups have no foreign
			// server (moto answers 500), so the weaker proof is claimed.
			Support: activities.ByAPI, Reversible: true, Idempotent: true, Proof: activities.LabOnly, API: apiTrail,
			Permissions: inspectPermissions,
			Calls:       []string{"iam:GetAccessKeyLastUsed", "iam:ListAccessKeys", "iam:GetUser", "iam:List*Policies", "iam:Get*Policy", "cloudtrail:LookupEvents"},
		},
		activities.EndSessions: {
			// moto stores the policy and ignores its condition; that it ends only older
			// sessions is proven in the lab alone.
			Support: activities.ByAPI, Reversible: true, Idempotent: true, Proof: activities.LabOnly, API: apiIAM,
			Permissions: []string{"iam:GetUserPolicy", "iam:PutUserPolicy", "iam:GetRolePolicy", "iam:PutRolePolicy"},
			Calls:       []string{"iam:GetUserPolicy", "iam:PutUserPolicy", "iam:GetRolePolicy", "iam:PutRolePolicy"},
		},
		activities.Deny: {
			Support: activities.ByAPI, Reversible: true, Idempotent: true, Proof: activities.ForeignServer, API: apiIAM,
			Permissions: []string{"iam:PutUserPolicy", "iam:PutRolePolicy", "iam:DeleteUserPolicy", "iam:DeleteRolePolicy"},
			Calls:       []string{"iam:PutUserPolicy", "iam:PutRolePolicy"},
		},
		activities.Bind: {
			Support: activities.ByAPI, Reversible: true, Idempotent: true, Proof: activities.LabOnly, API: apiIAM,
			Permissions: []string{"iam:PutUserPolicy", "iam:PutRolePolicy", "iam:DeleteUserPolicy", "iam:DeleteRolePolicy"},
			Calls:       []string{"iam:PutUserPolicy", "iam:PutRolePolicy"},
		},
		activities.Probe: {
			Support: activities.ByAPI, Reversible: true, Idempotent: true, Proof: activities.ForeignServer, API: apiSTS,
			Permissions: nil, // GetCallerIdentity needs none and cannot be denied
			Calls:       []string{"sts:GetCallerIdentity", "iam:GetUser"},
		},
		activities.Sweep: {
			Support: activities.ByAPI, Reversible: true, Idempotent: true, Proof: activities.LabOnly, API: apiTrail,
			Permissions: sweepPermissions,
			Calls:       []string{"iam:GetAccountAuthorizationDetails", "iam:ListAccessKeys", "iam:GetLoginProfile", "iam:ListMFADevices", "iam:ListSSHPublicKeys", "iam:ListServiceSpecificCredentials", "iam:ListSigningCertificates", "cloudtrail:LookupEvents"},
		},
	}
}

// The rights to read, by verb; policy-read.json grants them all (a test holds
// the two together).
var (
	inspectPermissions = []string{
		"iam:GetAccessKeyLastUsed", "iam:ListAccessKeys", "iam:GetUser",
		"iam:ListUserPolicies", "iam:GetUserPolicy", "iam:ListAttachedUserPolicies",
		"iam:ListGroupsForUser", "iam:ListGroupPolicies", "iam:GetGroupPolicy", "iam:ListAttachedGroupPolicies",
		"iam:ListRolePolicies", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:GetRole",
		"iam:GetPolicy", "iam:GetPolicyVersion", "cloudtrail:LookupEvents",
	}
	sweepPermissions = []string{
		"iam:GetAccountAuthorizationDetails", "iam:ListAccessKeys", "iam:GetLoginProfile", "iam:ListMFADevices",
		"iam:ListSSHPublicKeys", "iam:ListServiceSpecificCredentials", "iam:ListSigningCertificates", "cloudtrail:LookupEvents",
	}
)
