package porttest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// asClaimer makes this binary claim ports and hold them until its input ends.
const asClaimer = "PORTTEST_CLAIM"

func TestNoPortIsGivenTwice(t *testing.T) {
	const each, processes = 300, 3
	if os.Getenv(asClaimer) != "" {
		fmt.Println(strings.Join(Free(t, each), " "))
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	self, err := os.Executable()
	require.NoError(t, err)
	given := map[string]bool{}
	take := func(ports []string) {
		require.Len(t, ports, each)
		for _, p := range ports {
			require.False(t, given[p], "%s was given twice", p)
			given[p] = true
		}
	}
	take(Free(t, each))
	for range processes {
		cmd := exec.CommandContext(t.Context(), self, "-test.run", "^"+t.Name()+"$", "-test.count=1")
		cmd.Env = append(os.Environ(), asClaimer+"=1")
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = in.Close()
			_ = cmd.Wait()
		})
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		take(strings.Fields(line))
	}
}

func TestAPortInUseIsNotGiven(t *testing.T) {
	l, err := net.Listen("tcp", Addresses(t, 1)[0])
	require.NoError(t, err, "what is given is free")
	t.Cleanup(func() { _ = l.Close() })
	_, ok := claim(t, t.TempDir(), l.Addr().(*net.TCPAddr).Port)
	require.False(t, ok, "somebody listens there")
}

func TestAPortIsGivenBackWithTheTest(t *testing.T) {
	var port string
	t.Run("one test", func(t *testing.T) { port = Free(t, 1)[0] })
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	f, ok := claim(t, claims(t), n)
	require.True(t, ok)
	require.NoError(t, f.Close())
}

func TestARowFollows(t *testing.T) {
	a, b := Row(t, 2), Row(t, 2)
	require.True(t, a+1 < b || b+1 < a, "%d and %d", a, b)
}
