package lab_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/stretchr/testify/require"

	"rekey/internal/lab"
	"rekey/internal/lab/control"
	"rekey/internal/lab/scenario"
)

// TestHelperLab is not a test: it is a lab in a process of its own.
func TestHelperLab(t *testing.T) {
	dir := os.Getenv("REKEY_LAB_TEST_SERVE")
	if dir == "" {
		t.Skip("only as a child of other tests")
	}
	d, err := scenario.LoadFile(filepath.Join(dir, "scenario.yaml"))
	require.NoError(t, err)
	s, err := lab.New(lab.Options{Dir: dir, Scenario: d})
	require.NoError(t, err)
	where, err := json.Marshal(place{Addrs: s.Addrs(), Token: s.Token(), Engine: s.Engine()})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "where.tmp"), where, 0o600))
	require.NoError(t, os.Rename(filepath.Join(dir, "where.tmp"), filepath.Join(dir, "where.json")))
	require.NoError(t, s.Run(t.Context()))
}

// place is where a lab process is.
type place struct {
	Addrs  lab.Addrs      `json:"addrs"`
	Token  string         `json:"token"`
	Engine control.Secret `json:"engine"`

	process *exec.Cmd
	ready   time.Duration // from its start
}

func (p place) control() *control.Client { return control.New("http://"+p.Addrs.Control, p.Token) }

// client gives an IAM client with the engine's credential and its own connections.
func (p place) client(region string, connections int) *iam.Client {
	return iam.NewFromConfig(aws.Config{Region: region, BaseEndpoint: aws.String("http://" + p.Addrs.Provider), RetryMaxAttempts: 1,
		HTTPClient: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: p.Engine.KeyID, SecretAccessKey: p.Engine.SecretKey}, nil
		})})
}

// spawn starts a lab process on dir/scenario.yaml and waits until it listens.
func spawn(t testing.TB, ctx context.Context, dir string) place {
	t.Helper()
	file := filepath.Join(dir, "where.json")
	require.NoError(t, os.RemoveAll(file))
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHelperLab$", "-test.timeout=1h")
	child.Env = append(os.Environ(), "REKEY_LAB_TEST_SERVE="+dir)
	child.Stdout, child.Stderr = os.Stderr, os.Stderr
	began := time.Now()
	require.NoError(t, child.Start())
	for {
		data, err := os.ReadFile(file)
		if err == nil {
			p := place{process: child, ready: time.Since(began)}
			require.NoError(t, json.Unmarshal(data, &p))
			return p
		}
		require.Less(t, time.Since(began), 2*time.Minute, "the lab does not start")
		time.Sleep(5 * time.Millisecond)
	}
}

func (p place) kill(t testing.TB) {
	t.Helper()
	require.NoError(t, p.process.Process.Signal(syscall.SIGKILL))
	_ = p.process.Wait()
}

// TestAKilledLabHasLostNoEffect kills the lab again and again in the middle of calls: whatever it
// has answered is in its log and in its state, and nothing is there twice.
func TestAKilledLabHasLostNoEffect(t *testing.T) {
	dir := t.TempDir()
	const users, callers, kills = 400, 8, 4
	require.NoError(t, os.WriteFile(filepath.Join(dir, "scenario.yaml"), []byte(estateOf(users)), 0o600))
	answered := map[string]string{} // key id -> state that the lab said yes to
	var mu sync.Mutex
	next := 0
	for range kills {
		p := spawn(t, t.Context(), dir)
		info, err := p.control().Info(t.Context())
		require.NoError(t, err)
		done := make(chan struct{})
		var wg sync.WaitGroup
		c := p.client(info.Region, callers)
		for range callers {
			wg.Go(func() {
				for {
					mu.Lock()
					n := next
					next++
					mu.Unlock()
					user := fmt.Sprintf("svc-%d", 1+n%users)
					id := info.Aliases["key-"+user]
					_, err := c.UpdateAccessKey(context.WithoutCancel(t.Context()), &iam.UpdateAccessKeyInput{UserName: &user, AccessKeyId: &id, Status: iamtypes.StatusTypeInactive})
					if err != nil {
						return // it is dead
					}
					mu.Lock()
					answered[id] = "inactive"
					if len(answered)%(users/kills-10) == 0 {
						close(done)
					}
					mu.Unlock()
				}
			})
		}
		<-done
		p.kill(t)
		wg.Wait()
	}
	p := spawn(t, t.Context(), dir)
	defer p.kill(t)
	o, err := p.control().Oracle(t.Context())
	require.NoError(t, err)
	effects := map[string]int{}
	for _, call := range o.Calls {
		if call.Effect {
			effects[call.Key]++
		}
	}
	state := map[string]string{}
	for _, k := range o.Keys {
		state[k.ID] = k.State
	}
	require.Greater(t, len(answered), users/2)
	for id := range answered {
		require.Equal(t, "inactive", state[id], id)
		require.Equal(t, 1, effects[id], "once, however often it was asked: %s", id)
	}
	for id, n := range effects {
		require.Equal(t, 1, n, id)
		require.Equal(t, "inactive", state[id], "a call in the log without its effect: %s", id)
	}
	ledger, err := p.control().Ledger(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(effects), ledger.Verbs["Disable"].Effects)
	require.Empty(t, ledger.Repeated)
}
