package lab_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/stretchr/testify/require"

	"rekey/internal/lab/labtest"
)

// connections is how many callers there are at once: as many as the bare loop of `rekey bench`.
const connections = 32

// estateOf is a world of one user and one key for each of a number of customers.
func estateOf(keys int) string {
	return strings.Replace(drillText("", ""), "trigger:", fmt.Sprintf("  generate: [{kind: key, count: %d, user: \"svc-{n}\"}]\ntrigger:", keys), 1)
}

// BenchmarkCall measures the lab alone: requests that were signed beforehand, over kept
// connections, in estates of three sizes. What is O(estate) shows as a difference between them.
func BenchmarkCall(b *testing.B) {
	for _, keys := range []int{1_000, 10_000, 100_000} {
		b.Run(strconv.Itoa(keys), func(b *testing.B) {
			l := labtest.Start(b, labtest.Scenario(b, estateOf(keys)))
			const distinct = 500
			key := func(n int) (user, id string) {
				user = "svc-" + strconv.Itoa(1+n*(keys/distinct))
				return user, l.Aliases["key-"+user]
			}
			query := func(values ...string) func(int) []byte {
				return func(n int) []byte {
					user, id := key(n % distinct)
					form := url.Values{"Version": {"2010-05-08"}}
					for i := 0; i < len(values); i += 2 {
						form.Set(values[i], strings.NewReplacer("{user}", user, "{key}", id).Replace(values[i+1]))
					}
					return signed(b, l, "iam", form.Encode(), nil)
				}
			}
			stopped := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"2019-08-20T03:00:00Z"}}}]}`
			off, on := query("Action", "UpdateAccessKey", "UserName", "{user}", "AccessKeyId", "{key}", "Status", "Inactive"), query("Action", "UpdateAccessKey", "UserName", "{user}", "AccessKeyId", "{key}", "Status", "Active")
			for _, op := range []struct {
				name     string
				requests int
				make     func(int) []byte
			}{
				{"GetUser", distinct, query("Action", "GetUser", "UserName", "{user}")},
				{"ListAccessKeys", distinct, query("Action", "ListAccessKeys", "UserName", "{user}")},
				{"GetAccessKeyLastUsed", distinct, query("Action", "GetAccessKeyLastUsed", "AccessKeyId", "{key}")},
				{"ListUserPolicies", distinct, query("Action", "ListUserPolicies", "UserName", "{user}")},
				{"LookupEvents", distinct, func(n int) []byte {
					_, id := key(n % distinct)
					return signed(b, l, "cloudtrail", fmt.Sprintf(`{"LookupAttributes":[{"AttributeKey":"AccessKeyId","AttributeValue":%q}]}`, id),
						map[string]string{"X-Amz-Target": "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents", "Content-Type": "application/x-amz-json-1.1"})
				}},
				{"UpdateAccessKey", 2 * distinct, func(n int) []byte {
					if n < distinct {
						return off(n)
					}
					return on(n)
				}},
				{"PutUserPolicy", distinct, query("Action", "PutUserPolicy", "UserName", "{user}", "PolicyName", "stop", "PolicyDocument", stopped)},
				{"AccountPage", 1, query("Action", "GetAccountAuthorizationDetails", "MaxItems", "100", "Filter.member.1", "User", "Filter.member.2", "Role")},
			} {
				requests := make([][]byte, op.requests)
				for n := range requests {
					requests[n] = op.make(n)
				}
				b.Run(op.name, func(b *testing.B) { replay(b, l.BaseURL, requests) })
			}
		})
	}
}

// signed makes the bytes of a request as the engine's own credential would send it.
func signed(b testing.TB, l *labtest.Lab, service, body string, header map[string]string) []byte {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, l.BaseURL+"/", strings.NewReader(body))
	require.NoError(b, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for k, v := range header {
		req.Header.Set(k, v)
	}
	sum := sha256.Sum256([]byte(body))
	cred := aws.Credentials{AccessKeyID: l.Engine.KeyID, SecretAccessKey: l.Engine.SecretKey}
	require.NoError(b, v4.NewSigner().SignHTTP(b.Context(), cred, req, hex.EncodeToString(sum[:]), service, l.Region, time.Now()))
	var out bytes.Buffer
	require.NoError(b, req.Write(&out))
	return out.Bytes()
}

// replay sends b.N of the requests over kept connections and checks that each is a success.
func replay(b *testing.B, base string, requests [][]byte) {
	addr := strings.TrimPrefix(base, "http://")
	var next atomic.Int64
	var wg sync.WaitGroup
	used := cpu(b, os.Getpid())
	b.ResetTimer()
	for range min(connections, b.N) {
		wg.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			r := bufio.NewReader(conn)
			for {
				n := int(next.Add(1)) - 1
				if n >= b.N {
					return
				}
				if _, err := conn.Write(requests[n%len(requests)]); err != nil {
					b.Error(err)
					return
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					b.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Errorf("%s: %v", resp.Status, err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
	b.ReportMetric(float64((cpu(b, os.Getpid())-used).Microseconds())/float64(b.N), "µs-cpu/call")
}

// BenchmarkSDK is the bare loop that `rekey bench` compares itself with: three calls for each of
// b.N keys, by aws-sdk-go-v2 clients, 32 at once, to a lab in a process of its own. Besides the
// calls a second it reports what each process used for a call, so that one sees which of them
// holds it back, and how long a lab of that size takes to be ready.
func BenchmarkSDK(b *testing.B) {
	for _, keys := range []int{10_000, 100_000} {
		b.Run(strconv.Itoa(keys), func(b *testing.B) {
			dir := b.TempDir()
			require.NoError(b, os.WriteFile(filepath.Join(dir, "scenario.yaml"), []byte(estateOf(keys)), 0o600))
			p := spawn(b, b.Context(), dir)
			info, err := p.control().Info(b.Context())
			require.NoError(b, err)
			c := p.client(info.Region, connections)
			mine, labs := cpu(b, os.Getpid()), cpu(b, p.process.Process.Pid)
			work := make(chan int)
			var wg sync.WaitGroup
			b.ResetTimer()
			for range connections {
				wg.Go(func() {
					for n := range work {
						user := "svc-" + strconv.Itoa(1+n%keys)
						id := info.Aliases["key-"+user]
						status := iamtypes.StatusTypeInactive
						if n/keys%2 == 1 {
							status = iamtypes.StatusTypeActive
						}
						if _, err := c.UpdateAccessKey(b.Context(), &iam.UpdateAccessKeyInput{UserName: &user, AccessKeyId: &id, Status: status}); err != nil {
							b.Error(err)
						}
						for range 2 {
							if _, err := c.ListAccessKeys(b.Context(), &iam.ListAccessKeysInput{UserName: &user}); err != nil {
								b.Error(err)
							}
						}
					}
				})
			}
			for n := range b.N {
				work <- n
			}
			close(work)
			wg.Wait()
			b.StopTimer()
			calls := float64(3 * b.N)
			b.ReportMetric(calls/b.Elapsed().Seconds(), "calls/s")
			b.ReportMetric(float64((cpu(b, p.process.Process.Pid)-labs).Microseconds())/calls, "µs-lab/call")
			b.ReportMetric(float64((cpu(b, os.Getpid())-mine).Microseconds())/calls, "µs-client/call")
			b.ReportMetric(float64(p.ready.Milliseconds()), "ms-ready")
			b.ReportMetric(float64(rss(b, p.process.Process.Pid))/float64(keys), "B-rss/key")
			p.kill(b)
		})
	}
}

// cpu gives the processor time of a process, from /proc/PID/stat (proc_pid_stat(5)): fields 14
// and 15 in ticks of 10 ms.
func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(b, err)
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	var total time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		require.NoError(b, err)
		total += time.Duration(n) * 10 * time.Millisecond
	}
	return total
}

// rss gives the memory of a process in bytes.
func rss(b *testing.B, pid int) int64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	require.NoError(b, err)
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	require.NoError(b, err)
	return pages * int64(os.Getpagesize())
}

// BenchmarkQuarter is three months of an attacker's attempts.
func BenchmarkQuarter(b *testing.B) {
	for range b.N {
		l := labtest.Start(b, labtest.Scenario(b, drillText("", knowsOld)))
		_, err := l.Control.Advance(b.Context(), 90*24*time.Hour)
		require.NoError(b, err)
		l.Stop(b)
	}
}
