package awsiam_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/activities/activitytest"
	"rekey/activities/awsiam"
)

func TestCheckID(t *testing.T) {
	for id, want := range map[string]string{"AKIAIOSFODNN7EXAMPLE": awsiam.KindUser, "ASIAIOSFODNN7EXAMPLE": awsiam.KindSession} {
		kind, err := awsiam.CheckID(id)
		require.NoError(t, err)
		require.Equal(t, want, kind)
	}
	for id, sentence := range map[string]string{
		"AIDAIOSFODNN7EXAMPLE":  "is an IAM user's id, not a key",
		"akiaiosfodnn7example":  "20 characters",
		"AKIAIOSFODNN7EXAMPL":   "this has 19",
		"AKIAIOSFODNN7EXAMPLE ": "spaces around it",
		"XKIAIOSFODNN7EXAMPLE":  "begins with AKIA",
		"":                      "this has 0",
	} {
		_, err := awsiam.CheckID(id)
		require.ErrorContains(t, err, sentence, id)
	}
	canary := activitytest.Canary()
	for _, s := range []string{canary, canary + "=", "AWS_SECRET_ACCESS_KEY=" + canary, " " + canary} {
		_, err := awsiam.CheckID(s)
		require.EqualError(t, err, "that looks like a secret; give the key id, pass the secret by --secret-stdin")
	}
}

func TestAccountOf(t *testing.T) {
	got, ok := awsiam.AccountOf(newID("AKIA"))
	require.True(t, ok)
	require.Equal(t, vendorAccount, got)
	for _, id := range []string{"AKIAIOSFODNN7EXAMPLE", "AKIA" + "J" + strings.Repeat("A", 15), "AIDA" + strings.Repeat("Q", 16), "short"} {
		_, ok = awsiam.AccountOf(id)
		require.False(t, ok, id)
	}
}
