package loopback_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/loopback"
)

func TestPortsAreDistinctFreeAndNoOutgoingConnections(t *testing.T) {
	held := func() bool {
		ports, err := loopback.Ports(5)
		require.NoError(t, err)
		require.Len(t, ports, 5)
		seen := map[int]bool{}
		for _, p := range ports {
			require.False(t, seen[p])
			seen[p] = true
			require.Less(t, p, 32768)
			l, err := net.Listen("tcp", loopback.Address(p))
			if err != nil {
				return false
			}
			t.Cleanup(func() { _ = l.Close() })
		}
		return true
	}
	for range 10 { // another process may have taken one since
		if held() {
			return
		}
	}
	require.Fail(t, "the ports that are given are never free")
}
