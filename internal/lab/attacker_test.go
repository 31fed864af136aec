package lab_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/stretchr/testify/require"

	"rekey/internal/lab/control"
)

func TestAttackerMintsInsideThePropagationOfTheFirstChange(t *testing.T) {
	l := drill(t, "", knowsOld)
	disable(t, l, "legacy-admin", "AK-OLD")
	advance(t, l, time.Second)
	require.Len(t, l.Oracle(t).Keys, 2, "it needs a moment")
	advance(t, l, time.Second)
	var minted control.Key
	for _, k := range l.Oracle(t).Keys {
		if k.MintedBy == "malicious" {
			minted = k
		}
	}
	require.Equal(t, "legacy-admin", minted.User, "the dying key still made another")
	advance(t, l, 2*time.Minute)
	o := l.Oracle(t)
	results := map[string]string{}
	for _, u := range o.Uses {
		if u.Label == "malicious" && u.Call == "ec2:DescribeInstances" {
			results[u.Key] = u.Result
		}
	}
	require.Equal(t, map[string]string{l.Aliases["AK-OLD"]: "denied", minted.ID: "ok"}, results)

	_, err := iamFor(l, l.Engine).DeleteAccessKey(t.Context(), &iam.DeleteAccessKeyInput{UserName: aws.String("legacy-admin"), AccessKeyId: aws.String(minted.ID)})
	require.NoError(t, err)
	advance(t, l, 10*time.Minute)
	made := 0
	for _, k := range l.Oracle(t).Keys {
		if k.MintedBy == "malicious" {
			made++
			require.False(t, k.Alive)
		}
	}
	require.Equal(t, 1, made, "it reacts to the first change only")
}

func TestAttackerFailsAfterThePropagation(t *testing.T) {
	l := drill(t, `faults: [{what: attacker-mints, key: AK-OLD, at: T0+10s}]`, "")
	disable(t, l, "legacy-admin", "AK-OLD")
	advance(t, l, time.Minute)
	require.Len(t, l.Oracle(t).Keys, 2, "the key was dead for six seconds")
}

func TestAliveAfter200UntilPrincipal(t *testing.T) {
	l := drill(t, `faults: [{what: alive-after-200, key: AK-OLD, until_rung: principal}]`, "")
	old := l.Secret(t, "AK-OLD")
	disable(t, l, "legacy-admin", "AK-OLD")
	advance(t, l, time.Hour)
	list, err := iamFor(l, l.Engine).ListAccessKeys(t.Context(), &iam.ListAccessKeysInput{UserName: aws.String("legacy-admin")})
	require.NoError(t, err)
	require.Equal(t, iamtypes.StatusTypeInactive, list.AccessKeyMetadata[0].Status, "the provider says inactive")
	require.Empty(t, who(t, l, old), "and the key works")
	_, err = iamFor(l, l.Engine).DeleteAccessKey(t.Context(), &iam.DeleteAccessKeyInput{UserName: aws.String("legacy-admin"), AccessKeyId: aws.String(old.KeyID)})
	require.NoError(t, err)
	advance(t, l, time.Hour)
	require.Empty(t, who(t, l, old), "deleted, and works")
	put := func(name, doc string) {
		_, err := iamFor(l, l.Engine).PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{UserName: aws.String("legacy-admin"), PolicyName: aws.String(name), PolicyDocument: aws.String(doc)})
		require.NoError(t, err)
		advance(t, l, 5*time.Second)
	}
	put("sessions", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2019-08-20T03:00:00Z"}}}]}`)
	require.Empty(t, who(t, l, old), "the rung sessions is not enough")
	put("principal", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`)
	require.Equal(t, "InvalidClientTokenId", who(t, l, old))
	for _, k := range l.Oracle(t).Keys {
		require.Equal(t, k.ID != old.KeyID, k.Alive, k.ID)
	}
}
