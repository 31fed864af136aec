package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"rekey/internal/codec"
	"rekey/internal/codec/keyring"
	"rekey/workflows"
)

// alone tells whether another process has the data directory of the embedded server
// although no rekey answers: a second one cannot start there.
func (d *doctor) alone(running bool) {
	const id = "data.lock"
	path := filepath.Join(d.cfg.Data, "lock")
	f, err := os.Open(path)
	if err != nil {
		return // nothing was ever started here, or data.modes says so
	}
	defer func() { _ = f.Close() }()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) // released with f
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK) && running:
		d.ok(id, "the running rekey has the data directory")
	case errors.Is(err, syscall.EWOULDBLOCK):
		d.fault(id, "end that process (`fuser "+path+"` names it), or give this one the same listen.http: two cannot share a data directory",
			"another process has %s, and no rekey answers at listen.http", d.cfg.Data)
	case err != nil:
		d.fault(id, "put the data directory on a local file system: without locks two processes could call the same account", "%s cannot be locked", path)
	default:
		d.ok(id, "no other process has the data directory")
	}
}

// codecEndpoint asks as a browser that shows the Temporal UI would: without the
// UI's very origin in the answer it shows ciphertext
// (https://docs.temporal.io/production-deployment/data-encryption).
func (d *doctor) codecEndpoint(ctx context.Context, running bool) {
	const id = "codec"
	if !running {
		d.skipped(id, "no rekey is running: the Temporal UI has nobody who decodes for it")
		return
	}
	base, c, err := d.http()
	if err != nil {
		return // said by server
	}
	origin := "http://" + d.cfg.Listen.UI
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, base+"/codec/decode", http.NoBody)
	if err != nil {
		d.fault(id, "mend listen.http in rekey.yaml", "listen.http makes no URL")
		return
	}
	req.Header.Set("Origin", origin)
	resp, err := c.Do(req)
	if err != nil {
		d.fault(id, "look at the output of the running rekey", "the codec endpoint at %s/codec does not answer", base)
		return
	}
	_ = resp.Body.Close()
	switch got := resp.Header.Get("Access-Control-Allow-Origin"); {
	case resp.StatusCode == http.StatusNotFound:
		d.skipped(id, "the running rekey has no Temporal UI of its own, so no codec endpoint")
	case got != origin:
		d.fault(id, "open the Temporal UI under exactly "+origin+" (listen.ui), and restart rekey after a change of it",
			"the codec endpoint does not serve the Temporal UI at %s: payloads stay unreadable there", origin)
	default:
		d.ok(id, "the Temporal UI at %s may have payloads decoded", origin)
	}
}

// workers tells whether anybody does the work.
func (d *doctor) workers(ctx context.Context, id string, c client.Client) {
	id += ".workers"
	polls := 0
	for _, kind := range []enumspb.TaskQueueType{enumspb.TASK_QUEUE_TYPE_WORKFLOW, enumspb.TASK_QUEUE_TYPE_ACTIVITY} {
		q, err := c.DescribeTaskQueue(ctx, workflows.TaskQueue, kind)
		if err != nil {
			d.fault(id, "may our credential read task queues? ask the cluster's administrator", "who polls the task queue %s cannot be told", workflows.TaskQueue)
			return
		}
		if len(q.GetPollers()) == 0 && !d.waiting(ctx, c) {
			d.skipped(id, "no worker polls the task queue %s, and no incident waits for one: `rekey worker` is one, `rekey up` has one", workflows.TaskQueue)
			return
		}
		if len(q.GetPollers()) == 0 {
			d.fault(id, "start `rekey worker` with this rekey.yaml (`rekey up` has one); where one runs, does it use the same address and namespace?",
				"no worker polls the task queue %s: incidents stand still", workflows.TaskQueue)
			return
		}
		polls = max(polls, len(q.GetPollers()))
	}
	d.ok(id, "%d poll the task queue %s", polls, workflows.TaskQueue)
}

// waiting tells whether an incident is open.
func (d *doctor) waiting(ctx context.Context, c client.Client) bool {
	n, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Namespace: d.cfg.Temporal.Namespace, Query: fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus = 'Running'", workflows.TypeIncident),
	})
	return err != nil || n.GetCount() > 0
}

// sampleOpen is how many open incidents are tried with our codec keys.
const sampleOpen = 50

// payloads tries to read how open incidents began. It needs the codec keys alone.
func (d *doctor) payloads(ctx context.Context, id string, c client.Client) {
	id += ".payloads"
	if !exists(d.codecDir()) {
		return // said by keys.codec
	}
	keys, err := keyring.Open(keyring.Options{Dir: d.codecDir(), Current: d.cfg.Codec.Current})
	if err != nil {
		return // said by keys.codec
	}
	list, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: d.cfg.Temporal.Namespace, PageSize: sampleOpen,
		Query: fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus = 'Running'", workflows.TypeIncident),
	})
	if err != nil {
		d.fault(id, "is the cluster healthy? Try again", "open incidents cannot be listed")
		return
	}
	lacking := map[string]bool{}
	var unread []string
	for _, e := range list.GetExecutions() {
		x := e.GetExecution()
		first, err := c.GetWorkflowHistory(ctx, x.GetWorkflowId(), x.GetRunId(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT).Next()
		if err != nil {
			continue // it may have ended meanwhile
		}
		_, err = codec.New(keys).Decode(first.GetWorkflowExecutionStartedEventAttributes().GetInput().GetPayloads())
		var missing *keyring.MissingKeyError
		switch {
		case errors.As(err, &missing):
			lacking[missing.ID] = true
			unread = append(unread, incidentOf(x.GetWorkflowId()))
		case err != nil:
			unread = append(unread, incidentOf(x.GetWorkflowId()))
		}
	}
	if len(unread) > 0 {
		what := "not encrypted by this installation's keys"
		if len(lacking) > 0 {
			what = "encrypted under keys that are not in " + d.codecDir() + ": " + strings.Join(slices.Sorted(maps.Keys(lacking)), ", ")
		}
		d.fault(id, "restore those key files from backup, or from the host that has them; without them no worker can go on with these incidents",
			"%d open incidents (%s) are %s", len(unread), some(unread), what)
		return
	}
	d.ok(id, "%d open incidents can be read with our keys", len(list.GetExecutions()))
}
