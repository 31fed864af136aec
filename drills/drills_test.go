package drills_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/drills"
	"rekey/internal/lab/scenario"
)

func TestEveryDrillLoads(t *testing.T) {
	names := drills.Names()
	require.Contains(t, names, "imperva-2018")
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			d, err := drills.Load(name)
			require.NoError(t, err)
			require.Equal(t, name, d.Name, "a drill is called like its file")
			require.NoError(t, d.Unsupported(map[string]bool{scenario.PartLab: true}))
		})
	}
	_, err := drills.Load("no-such-drill")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestImpervaSaysWhatTheContractSays(t *testing.T) {
	d, err := drills.Load("imperva-2018")
	require.NoError(t, err)
	require.EqualValues(t, 2, d.Seed)
	require.Equal(t, "2017-09-01T00:00:00Z", d.Estate.Keys[0].Issued.Resolve(d.Clock.T0.Time).Format("2006-01-02T15:04:05Z07:00"))
	require.Len(t, d.GeneratedKeys(1), 20)
	require.Len(t, d.GeneratedKeys(50), 1000)
	require.Equal(t, "svc-20", d.GeneratedKeys(1)[19].User)
	require.Equal(t, scenario.EdgeAfterCall, d.Faults[0].At.Edge)
	require.Equal(t, []string{"G1"}, d.Controls["trust-http-200"].MustViolate)
}
