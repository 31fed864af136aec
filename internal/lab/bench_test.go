package lab_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/stretchr/testify/require"

	"rekey/internal/lab/labtest"
)

// BenchmarkDisable measures synced mutating calls, 16 at once, in an account of 10,000 keys: the
// bare loop that `rekey bench` compares itself with.
func BenchmarkDisable(b *testing.B) {
	text := strings.Replace(drillText("", ""), "trigger:", `  generate: [{kind: key, count: 10000, user: "svc-{n}"}]`+"\ntrigger:", 1)
	l := labtest.Start(b, labtest.Scenario(b, text))
	c := iamFor(l, l.Engine)
	work := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for n := range work {
				user := "svc-" + strconv.Itoa(1+n%10000)
				_, err := c.UpdateAccessKey(b.Context(), &iam.UpdateAccessKeyInput{UserName: aws.String(user), AccessKeyId: aws.String(l.Aliases["key-"+user]), Status: iamtypes.StatusTypeInactive})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ResetTimer()
	for n := range b.N {
		work <- n
	}
	close(work)
	wg.Wait()
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
