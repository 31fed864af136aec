package worker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/batch"
	"rekey/activities/notify"
	"rekey/internal/blob"
	"rekey/internal/canon"
	"rekey/internal/codec/keyring"
	"rekey/internal/config"
	"rekey/internal/estate"
	"rekey/internal/fsx"
	"rekey/internal/notice"
	"rekey/workflows"
)

// errDisk is what a full disk gives.
var errDisk = &fsx.DiskFullError{}

// post is a channel that counts what it took and fails as it is told.
type post struct {
	delivery notify.Delivery
	closed   error // not configured
	// during runs inside the hand-over, when the message is out.
	during func(n int)
	answer func(n int) (notify.SendResult, error)

	mu    sync.Mutex
	taken []notify.SendRequest
}

func (p *post) Send(_ context.Context, r notify.SendRequest) (notify.SendResult, error) {
	p.mu.Lock()
	p.taken = append(p.taken, r)
	n := len(p.taken)
	p.mu.Unlock()
	if p.during != nil {
		p.during(n)
	}
	if p.answer != nil {
		return p.answer(n)
	}
	return notify.SendResult{Result: activities.Result{Outcome: activities.Done}, Receipt: "queue-1"}, nil
}

// disk is real journals whose appends fail as told.
type disk struct {
	batch.BlobJournals
	mu   sync.Mutex
	n    int
	full func(n int) bool
}

type diskJournal struct {
	batch.Journal
	d *disk
}

func (d *disk) Open(ctx context.Context, name string, term uint64) (batch.Journal, error) {
	j, err := d.BlobJournals.Open(ctx, name, term)
	if err != nil {
		return nil, err
	}
	return diskJournal{j, d}, nil
}

func (j diskJournal) Append(ctx context.Context, rec []byte, durable bool) error {
	j.d.mu.Lock()
	j.d.n++
	full := j.d.full != nil && j.d.full(j.d.n)
	j.d.mu.Unlock()
	if full {
		return errDisk
	}
	return j.Journal.Append(ctx, rec, durable)
}

// office is one hand-over with its files, its journal and its channel.
type office struct {
	t         *testing.T
	root      string
	customers string
	keys      *keyring.Keyring
	disk      *disk
	post      *post
	act       *sendActivity
	in        workflows.SendInput
}

const officeAddress = "oncall@acme.example"

func newOffice(t *testing.T, d notify.Delivery) *office {
	t.Helper()
	o := &office{t: t, root: t.TempDir(), post: &post{delivery: d}}
	keys, err := keyring.Open(keyring.Options{Dir: filepath.Join(o.root, "keys"), Create: true, Now: time.Now})
	require.NoError(t, err)
	o.keys = keys
	o.customers = filepath.Join(o.root, "customers.json")
	o.files(`[{"ref":"C033","name":"Acme","keys":[],"contacts":[{"order":1,"channel":"email","address":"` + officeAddress + `"}]}]`)
	o.restart()
	m := notice.Message{Subject: "act", Text: "a text", Data: notice.Data{Schema: notice.SchemaNotice}}
	b, err := m.Bytes()
	require.NoError(t, err)
	hash, err := o.act.blobs.Put(context.Background(), b)
	require.NoError(t, err)
	o.in = workflows.SendInput{
		Incident: "inc-1", ID: "inc-1-n1-1-c1", Audience: "customer", Ref: "C033", Contact: workflows.Contact{Order: 1, Channel: "email"}, Text: hash, Attempt: 1,
	}
	return o
}

func (o *office) files(customers string) {
	require.NoError(o.t, os.WriteFile(o.customers, []byte(customers), 0o600))
}

// restart is a new process over the same directory.
func (o *office) restart() {
	dir, err := blob.OpenDir(filepath.Join(o.root, "blobs"), o.keys)
	require.NoError(o.t, err)
	full := (func(int) bool)(nil)
	if o.disk != nil {
		full = o.disk.full
	}
	o.disk = &disk{BlobJournals: batch.BlobJournals{Journals: dir}, full: full}
	o.act = &sendActivity{
		contacts: func() (*estate.Directory, error) { return estate.LoadDirectory(nil, []string{o.customers}) },
		blobs:    dir, journals: o.disk, now: func(context.Context) time.Time { return time.Unix(1_700_000_000, 0).UTC() },
		open: func(string) (notify.Descriptor, notify.Sender, error) {
			return notify.Descriptor{Code: "email", Delivery: o.post.delivery}, o.post, o.post.closed
		},
	}
}

func (o *office) send() (workflows.SendResult, error) {
	res, err := o.act.Send(context.Background(), o.in)
	o.in.Attempt++
	return res, err
}

// dies is an attempt whose process ends inside the hand-over, when the message is out.
func (o *office) dies() {
	o.post.during = func(int) { runtime.Goexit() }
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = o.send()
		o.t.Error("the attempt came back")
	}()
	<-over
	o.post.during = nil
	o.in.Attempt++
	o.restart()
}

// records are the kinds in the journal, which hold no address.
func (o *office) records() []string {
	o.t.Helper()
	j, err := o.disk.BlobJournals.Open(context.Background(), "notify/"+o.in.ID, 0)
	require.NoError(o.t, err)
	defer func() { require.NoError(o.t, j.Close()) }()
	recs, err := j.Records(context.Background())
	require.NoError(o.t, err)
	out := []string{}
	for _, b := range recs {
		require.NotContains(o.t, string(b), officeAddress)
		var r sendRecord
		require.NoError(o.t, json.Unmarshal(b, &r))
		kind := r.Kind
		if r.Result != nil {
			kind += " " + string(r.Result.Outcome) + string(r.Result.Class)
		}
		out = append(out, kind)
	}
	return out
}

func TestTheIntentIsOnDiskBeforeTheChannelIsCalled(t *testing.T) {
	o := newOffice(t, notify.AtMostOnce)
	var during []string
	o.post.during = func(int) { during = o.records() }
	res, err := o.send()
	require.NoError(t, err)
	require.Equal(t, []string{"intent"}, during)
	require.Equal(t, []string{"intent", "outcome done"}, o.records())
	require.Equal(t, activities.Done, res.Outcome)
	require.Equal(t, "queue-1", res.Receipt)
	require.False(t, res.Delivered, "a mail server's yes is not the recipient's")
	require.Equal(t, officeAddress, o.post.taken[0].To)
	require.Equal(t, o.in.ID, o.post.taken[0].ID)
}

func TestAnAnswerThatIsOnRecordIsGivenBackWithoutACall(t *testing.T) {
	for name, after := range map[string]func(*office){
		"the answer to Temporal was lost": func(*office) {},
		"another process":                 func(o *office) { o.restart() },
		"the contact was removed since":   func(o *office) { o.files(`[]`) },
		"the files are broken since":      func(o *office) { o.files(`{`) },
		"the channel was removed since":   func(o *office) { o.post.closed = errors.New("channels.email is not configured") },
		"the disk is full since":          func(o *office) { o.disk.full = func(int) bool { return true } },
	} {
		for _, d := range []notify.Delivery{notify.AtMostOnce, notify.Idempotent} {
			t.Run(name+" "+string(d), func(t *testing.T) {
				o := newOffice(t, d)
				first, err := o.send()
				require.NoError(t, err)
				after(o)
				again, err := o.send()
				require.NoError(t, err)
				require.True(t, again.Recovered)
				again.Recovered = false
				require.Equal(t, first, again)
				require.Len(t, o.post.taken, 1)
			})
		}
	}
}

func TestAProcessThatDiesInTheHandOver(t *testing.T) {
	t.Run("mail is never sent again", func(t *testing.T) {
		o := newOffice(t, notify.AtMostOnce)
		o.dies()
		for range 3 {
			res, err := o.send()
			require.NoError(t, err)
			require.Equal(t, activities.ClassUnclear, res.Class)
			require.False(t, res.Again)
			require.True(t, res.Recovered)
			o.restart()
		}
		require.Len(t, o.post.taken, 1)
		require.Equal(t, []string{"intent", "outcome unclear"}, o.records())
	})
	t.Run("mail whose contact was removed since is unclear, not refused", func(t *testing.T) {
		o := newOffice(t, notify.AtMostOnce)
		o.dies()
		o.files(`[]`)
		o.post.closed = errors.New("channels.email is not configured")
		res, err := o.send()
		require.NoError(t, err)
		require.Equal(t, activities.ClassUnclear, res.Class, "the next contact would be told a second time")
	})
	t.Run("a person's word begins a journal of its own", func(t *testing.T) {
		o := newOffice(t, notify.AtMostOnce)
		o.dies()
		o.in.Round = 1
		res, err := o.send()
		require.NoError(t, err)
		require.Equal(t, activities.Done, res.Outcome)
		require.Len(t, o.post.taken, 2)
	})
	for _, d := range []notify.Delivery{notify.Idempotent, notify.Detectable} {
		t.Run("asked again, with the same id: "+string(d), func(t *testing.T) {
			o := newOffice(t, d)
			o.dies()
			res, err := o.send()
			require.NoError(t, err)
			require.Equal(t, activities.Done, res.Outcome)
			require.Equal(t, d == notify.Idempotent, res.Delivered)
			require.Len(t, o.post.taken, 2)
			require.Equal(t, o.post.taken[0].ID, o.post.taken[1].ID)
			require.True(t, o.post.taken[1].Recheck)
			require.Equal(t, []string{"intent", "intent", "outcome done"}, o.records())
		})
	}
}

func TestWhatMayBeRepeatedIsRepeated(t *testing.T) {
	for _, tt := range []struct {
		name     string
		delivery notify.Delivery
		class    activities.Class
		calls    int
	}{
		{"nothing was handed over", notify.AtMostOnce, activities.ClassTransient, 2},
		{"the server asks for time", notify.AtMostOnce, activities.ClassThrottled, 2},
		{"our own set-up", notify.AtMostOnce, activities.ClassDenied, 2},
		{"refused for good", notify.AtMostOnce, activities.ClassInvalid, 1},
		{"a lost answer of a mail server", notify.AtMostOnce, activities.ClassUnclear, 1},
		{"a lost answer of a webhook", notify.Idempotent, activities.ClassUnclear, 2},
		{"a webhook that refuses", notify.Idempotent, activities.ClassInvalid, 1},
		{"a channel that promises nothing", "", activities.ClassUnclear, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newOffice(t, tt.delivery)
			o.post.answer = func(int) (notify.SendResult, error) {
				return notify.SendResult{}, &activities.Fault{Class: tt.class, Op: "x", Detail: "said so", After: 3 * time.Second, Status: 450}
			}
			first, err := o.send()
			require.NoError(t, err)
			require.Equal(t, tt.class, first.Class)
			require.Equal(t, "said so", first.Detail)
			require.EqualValues(t, 3000, first.AfterMs)
			o.restart()
			second, err := o.send()
			require.NoError(t, err)
			require.Equal(t, tt.class, second.Class)
			require.Len(t, o.post.taken, tt.calls)
			require.Equal(t, tt.calls == 1, second.Recovered)
		})
	}
}

func TestAChannelThatSaysNothingIsUnclear(t *testing.T) {
	o := newOffice(t, notify.AtMostOnce)
	o.post.answer = func(int) (notify.SendResult, error) { return notify.SendResult{}, nil }
	res, err := o.send()
	require.NoError(t, err)
	require.Equal(t, activities.ClassUnclear, res.Class)
	require.Empty(t, res.Outcome)
}

func TestTwoAttemptsThatOverlapSendOnce(t *testing.T) {
	o := newOffice(t, notify.AtMostOnce)
	inside, goOn := make(chan struct{}), make(chan struct{})
	o.post.during = func(n int) {
		if n == 1 {
			close(inside)
			<-goOn
		}
	}
	type answer struct {
		res workflows.SendResult
		err error
	}
	run := func(act *sendActivity, in workflows.SendInput) chan answer {
		c := make(chan answer, 1)
		go func() {
			res, err := act.Send(context.Background(), in)
			c <- answer{res, err}
		}()
		return c
	}
	first := run(o.act, o.in)
	<-inside
	// The second one is of another process over the same directory.
	o.restart()
	second := o.in
	second.Attempt = 2
	late := run(o.act, second)
	select {
	case a := <-late:
		require.Fail(t, "it did not wait", "%+v %v", a.res, a.err)
	case <-time.After(200 * time.Millisecond):
	}
	close(goOn)
	a, b := <-first, <-late
	require.NoError(t, a.err)
	require.NoError(t, b.err)
	require.Equal(t, activities.Done, a.res.Outcome)
	require.True(t, b.res.Recovered)
	require.Equal(t, activities.Done, b.res.Outcome)
	require.Len(t, o.post.taken, 1)
}

func TestAnAttemptThatWaitsForAnotherGivesUpWithItsContext(t *testing.T) {
	o := newOffice(t, notify.AtMostOnce)
	free, err := o.disk.Lock(context.Background(), "notify-"+o.in.ID)
	require.NoError(t, err)
	defer free()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = o.act.Send(ctx, o.in)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, o.post.taken)
}

func TestADiskThatIsFull(t *testing.T) {
	t.Run("before the call: nothing is sent, and it is sent when there is room", func(t *testing.T) {
		for _, d := range []notify.Delivery{notify.AtMostOnce, notify.Idempotent} {
			o := newOffice(t, d)
			o.disk.full = func(int) bool { return true }
			_, err := o.send()
			var full *fsx.DiskFullError
			require.ErrorAs(t, err, &full)
			require.Empty(t, o.post.taken)
			o.disk.full = nil
			res, err := o.send()
			require.NoError(t, err)
			require.Equal(t, activities.Done, res.Outcome)
			require.Len(t, o.post.taken, 1)
		}
	})
	t.Run("after the call: the history has the answer, and an answer that is lost too is unclear", func(t *testing.T) {
		o := newOffice(t, notify.AtMostOnce)
		o.disk.full = func(n int) bool { return n > 1 }
		res, err := o.send()
		require.NoError(t, err)
		require.Equal(t, activities.Done, res.Outcome)
		o.restart()
		o.disk.full = func(int) bool { return true }
		res, err = o.send()
		require.NoError(t, err)
		require.Equal(t, activities.ClassUnclear, res.Class)
		require.Len(t, o.post.taken, 1)
	})
	t.Run("no journals at all", func(t *testing.T) {
		o := newOffice(t, notify.AtMostOnce)
		require.NoError(t, os.RemoveAll(filepath.Join(o.root, "blobs", "journals")))
		_, err := o.send()
		require.Error(t, err)
		require.Empty(t, o.post.taken)
	})
}

func TestWhatStandsInTheWayOfANotice(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil  func(*office)
		class  activities.Class
		detail string
	}{
		"no channel":        {func(o *office) { o.post.closed = errors.New("channels.email is not configured on this worker") }, activities.ClassDenied, "channels.email is not configured on this worker"},
		"files broken":      {func(o *office) { o.files("{") }, activities.ClassDenied, "rekey customers check"},
		"contact removed":   {func(o *office) { o.files("[]") }, activities.ClassInvalid, "not in the files any more"},
		"text is elsewhere": {func(o *office) { o.in.Text = blob.Hash([]byte("other")) }, activities.ClassDenied, "do the hosts share one?"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, notify.AtMostOnce)
			tt.spoil(o)
			res, err := o.send()
			require.NoError(t, err)
			require.Equal(t, tt.class, res.Class)
			require.Contains(t, res.Detail, tt.detail)
			require.NotContains(t, res.Detail, officeAddress)
			require.Empty(t, o.post.taken)
			require.Empty(t, o.records(), "nothing was about to be called")
		})
	}
}

func TestTheCustomersFilesOfAPlanAreKept(t *testing.T) {
	data := t.TempDir()
	one, two := filepath.Join(data, "one.json"), filepath.Join(data, "two.json")
	require.NoError(t, os.WriteFile(one, []byte(`[{"ref":"C1","name":"One","keys":[]}]`), 0o600))
	require.NoError(t, os.WriteFile(two, []byte(`[{"ref":"C2","name":"Two","keys":[]}]`), 0o600))
	r := &Runtime{Config: &config.Config{Data: data}, Log: slog.New(slog.DiscardHandler)}
	kept := func(digest string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(data, "customers", strings.TrimPrefix(digest, "sha256:")+".json"))
		require.NoError(t, err)
		require.Equal(t, digest, canon.Hash(b))
		return b
	}
	require.NoError(t, r.keepCustomers())
	require.NoDirExists(t, filepath.Join(data, "customers"), "nobody is named")

	r.Config.Customers.Files = []string{one}
	require.NoError(t, r.keepCustomers())
	require.NoError(t, r.keepCustomers(), "again")
	dir, err := r.contacts()
	require.NoError(t, err)
	require.Contains(t, string(kept(dir.Digest)), `"C1"`)
	old := dir.Digest

	// A file that is changed while rekey runs: the plan of then can be looked up too.
	require.NoError(t, os.WriteFile(one, []byte(`[{"ref":"C3","name":"Three","keys":[]}]`), 0o600))
	r.Config.Customers.Files = []string{one, two}
	dir, err = r.keptContacts()
	require.NoError(t, err)
	var list []string
	require.NoError(t, json.Unmarshal(kept(dir.Digest), &list))
	require.Len(t, list, 2)
	require.Contains(t, string(kept(list[0])), `"C3"`)
	require.Contains(t, string(kept(list[1])), `"C2"`)
	require.Contains(t, string(kept(old)), `"C1"`)

	// Where they cannot be kept people are told all the same.
	r.Config.Data = one
	require.Error(t, r.keepCustomers())
	_, err = r.keptContacts()
	require.NoError(t, err)
}
