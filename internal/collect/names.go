package collect

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/proxy"

	"rekey/internal/derive"
	"rekey/internal/fsx"
)

// A name is the hash of a blob. Whoever names a blob does so in text, as "sha256:" and
// 64 hex digits: in a payload of a history, in a file of a bundle, in a blob, in a
// record of a journal.
type name [32]byte

func (n name) String() string { return prefix + hex.EncodeToString(n[:]) }

const (
	prefix = "sha256:"
	digits = 64
)

// parse reads one name.
func parse(s string) (n name, ok bool) {
	d, ok := strings.CutPrefix(s, prefix)
	if !ok || len(d) != digits || strings.ToLower(d) != d {
		return n, false
	}
	_, err := hex.Decode(n[:], []byte(d))
	return n, err == nil
}

// scan gives every name in a text, and the offset from which on one may have begun that
// is not whole yet.
func scan(text []byte, found func(name)) (rest int) {
	at := 0
	for {
		i := bytes.Index(text[at:], []byte(prefix))
		if i < 0 {
			return max(at, len(text)-len(prefix)+1, 0)
		}
		at += i
		if len(text)-at < len(prefix)+digits {
			return at
		}
		if n, ok := parse(string(text[at : at+len(prefix)+digits])); ok {
			found(n)
		}
		at += len(prefix)
	}
}

// stream scans what is too large to be held.
func stream(r io.Reader, found func(name)) error {
	buf := make([]byte, 0, 1<<20)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		rest := scan(buf, found)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		buf = append(buf[:0], buf[rest:]...)
	}
}

// history scans everything that a history holds, and gives the runs that it leads to.
func history(ctx context.Context, h *historypb.History, found func(name), leads func(workflow, run string)) error {
	for _, e := range h.GetEvents() {
		lead(e, leads)
	}
	return proxy.VisitPayloads(ctx, h, proxy.VisitPayloadsOptions{
		SkipSearchAttributes: true,
		Visitor: func(_ *proxy.VisitPayloadsContext, p []*commonpb.Payload) ([]*commonpb.Payload, error) {
			for _, one := range p {
				scan(one.GetData(), found)
			}
			return p, nil
		},
	})
}

// lead tells of the runs that an event names.
func lead(e *historypb.HistoryEvent, leads func(workflow, run string)) {
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
		x := e.GetChildWorkflowExecutionStartedEventAttributes().GetWorkflowExecution()
		leads(x.GetWorkflowId(), x.GetRunId())
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
		leads("", e.GetWorkflowExecutionContinuedAsNewEventAttributes().GetNewExecutionRunId())
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		if before := e.GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId(); before != "" {
			leads("", before)
		}
	}
}

// looksLikeHistory: the JSON of derive.JSON.
func looksLikeHistory(text []byte) bool {
	text = bytes.TrimLeft(text, " \t\r\n")
	text, ok := bytes.CutPrefix(text, []byte("{"))
	return ok && bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte(`"events"`))
}

// content scans a blob, or a file of a bundle. The payloads of a history are in base64
// there.
func content(ctx context.Context, text []byte, found func(name)) error {
	scan(text, found)
	if !looksLikeHistory(text) {
		return nil
	}
	run, err := derive.Parse("", "", text)
	if err != nil {
		return err
	}
	return history(ctx, run.History, found, func(string, string) {})
}

// bundles scans every bundle in dir. It fails with the first that cannot be read.
func bundles(ctx context.Context, dir string, found func(name)) (n int, err error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		if fsx.IsTemp(f.Name()) || f.IsDir() || !strings.HasSuffix(f.Name(), ".zip") {
			continue
		}
		if err := bundle(ctx, filepath.Join(dir, f.Name()), found); err != nil {
			return n, &UnreadableError{What: "bundle " + filepath.Join(dir, f.Name()), Err: err}
		}
		n++
	}
	return n, nil
}

func bundle(ctx context.Context, path string, found func(name)) error {
	z, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer func() { _ = z.Close() }()
	for _, f := range z.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := entry(ctx, f, found); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

func entry(ctx context.Context, f *zip.File, found func(name)) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	head := make([]byte, 64)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	whole := io.MultiReader(bytes.NewReader(head[:n]), r)
	if !looksLikeHistory(head[:n]) {
		return stream(whole, found)
	}
	text, err := io.ReadAll(whole)
	if err != nil {
		return err
	}
	return content(ctx, text, found)
}

// An UnreadableError says what could not be read, so that nothing was deleted.
type UnreadableError struct {
	What string
	Err  error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("%s cannot be read, and what it names is not known: nothing was deleted; mend it or restore it from backup: %s", e.What, e.Err)
}

func (e *UnreadableError) Unwrap() error { return e.Err }
