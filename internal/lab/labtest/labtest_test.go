package labtest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/drills"
	"rekey/internal/lab/labtest"
)

func TestStartGivesALabThatAnswers(t *testing.T) {
	d, err := drills.Load("imperva-2018")
	require.NoError(t, err)
	l := labtest.Start(t, d)
	require.Equal(t, "111122223333", l.Account)
	require.Regexp(t, `^AKIA[A-Z2-7]{16}$`, l.Aliases["AK-OLD"])
	require.Len(t, l.Secret(t, "AK-OLD").SecretKey, 40)
	require.Len(t, l.Oracle(t).Keys, 22)
}
