package blobtest

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// An S3 is a bucket in memory behind the calls that rekey makes, with faults. What it
// says is what AWS documents; that the real ones say the same is for the tests against
// moto and MinIO to show.
type S3 struct {
	URL string

	mu      sync.Mutex
	objects map[string]object
	now     func() time.Time
	fault   func(Call) Fault
	calls   []Call
	deaf    bool // If-None-Match is not honoured
}

type object struct {
	body     []byte
	modified time.Time
}

// A Call is one request. Op: put, get, head, delete, deletes, list.
type Call struct {
	Op, Key string
	// Absent: with If-None-Match.
	Absent bool
}

// A Fault is what happens to a call instead.
type Fault int

// Faults.
const (
	None    Fault = iota
	Refused       // 503, nothing happened
	Lost          // it happens, and the connection breaks before the answer
	Dropped       // nothing happens, and the connection breaks
	Denied        // 403
	Full          // no room
)

// Bucket is the only one there is.
const Bucket = "rekey-blobs"

// NewS3 starts one for the length of the test.
func NewS3(t testing.TB) *S3 {
	t.Helper()
	s := &S3{objects: map[string]object{}, now: time.Now, fault: func(Call) Fault { return None }}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// Fail decides the fault of each call from now on; nil: none.
func (s *S3) Fail(f func(Call) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil {
		f = func(Call) Fault { return None }
	}
	s.fault = f
}

// Ignore makes it a server that ignores If-None-Match.
func (s *S3) Ignore() { s.mu.Lock(); s.deaf = true; s.mu.Unlock() }

// At sets its clock.
func (s *S3) At(now func() time.Time) { s.mu.Lock(); s.now = now; s.mu.Unlock() }

// Calls gives the calls so far and forgets them.
func (s *S3) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.calls
	s.calls = nil
	return out
}

// Keys are those of all objects below prefix, sorted.
func (s *S3) Keys(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.objects)), func(k string) bool { return !strings.HasPrefix(k, prefix) })
}

// Get gives the bytes of an object, nil where there is none.
func (s *S3) Get(key string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.objects[key].body)
}

// Set replaces an object's bytes, as damage does; nil removes it.
func (s *S3) Set(key string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if body == nil {
		delete(s.objects, key)
		return
	}
	s.objects[key] = object{body: body, modified: s.now()}
}

// Age makes every object older.
func (s *S3) Age(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, o := range s.objects {
		o.modified = o.modified.Add(-by)
		s.objects[k] = o
	}
}

// ServeHTTP implements http.Handler.
func (s *S3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	c := Call{Op: map[string]string{http.MethodPut: "put", http.MethodGet: "get", http.MethodHead: "head", http.MethodDelete: "delete", http.MethodPost: "deletes"}[r.Method], Key: key, Absent: r.Header.Get("If-None-Match") == "*"}
	if c.Op == "get" && key == "" {
		c.Op, c.Key = "list", r.URL.Query().Get("prefix")
	}
	s.mu.Lock()
	fault := s.fault
	s.calls = append(s.calls, c)
	s.mu.Unlock()
	f := fault(c) // it may wait
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	var status int
	var answer []byte
	switch {
	case bucket != Bucket:
		status, answer = http.StatusNotFound, fail("NoSuchBucket")
	case f == Refused:
		status, answer = http.StatusServiceUnavailable, fail("SlowDown")
	case f == Denied:
		status, answer = http.StatusForbidden, fail("AccessDenied")
	case f == Full:
		status, answer = http.StatusInsufficientStorage, fail("XMinioStorageFull")
	case f == Dropped:
		hangUp(w)
		return
	default:
		status, answer = s.do(w.Header(), c, r, body)
	}
	if f == Lost {
		hangUp(w)
		return
	}
	w.WriteHeader(status)
	if c.Op != "head" {
		_, _ = w.Write(answer)
	}
}

func hangUp(w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		if conn, _, err := h.Hijack(); err == nil {
			_ = conn.Close()
		}
	}
}

func fail(code string) []byte {
	return []byte(xml.Header + "<Error><Code>" + code + "</Code><Message>the words of a server</Message></Error>")
}

func (s *S3) do(h http.Header, c Call, r *http.Request, body []byte) (int, []byte) {
	have, there := s.objects[c.Key]
	if c.Op == "head" && c.Key == "" { // of the bucket
		return http.StatusOK, nil
	}
	switch c.Op {
	case "put":
		if c.Absent && there && !s.deaf {
			return http.StatusPreconditionFailed, fail("PreconditionFailed")
		}
		s.objects[c.Key] = object{body: body, modified: s.now()}
		h.Set("ETag", etag(body))
		return http.StatusOK, nil
	case "get", "head":
		if !there {
			return http.StatusNotFound, fail("NoSuchKey")
		}
		h.Set("ETag", etag(have.body))
		h.Set("Last-Modified", have.modified.UTC().Format(http.TimeFormat))
		h.Set("Content-Length", strconv.Itoa(len(have.body)))
		return http.StatusOK, have.body
	case "delete":
		delete(s.objects, c.Key)
		return http.StatusNoContent, nil
	case "deletes":
		var in struct {
			Objects []struct{ Key string } `xml:"Object"`
		}
		if err := xml.Unmarshal(body, &in); err != nil {
			return http.StatusBadRequest, fail("MalformedXML")
		}
		for _, o := range in.Objects {
			delete(s.objects, o.Key)
		}
		return http.StatusOK, []byte(xml.Header + "<DeleteResult></DeleteResult>")
	}
	return s.list(c.Key, r.URL.Query().Get("continuation-token"))
}

// pageSize is small, so that every test goes over pages.
const pageSize = 50

func (s *S3) list(prefix, after string) (int, []byte) {
	type content struct {
		Key          string
		LastModified string
		ETag         string
		Size         int
	}
	out := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Name, Prefix          string
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []content
	}{Name: Bucket, Prefix: prefix}
	for _, k := range slices.Sorted(maps.Keys(s.objects)) {
		if !strings.HasPrefix(k, prefix) || k <= after {
			continue
		}
		if len(out.Contents) == pageSize {
			out.IsTruncated, out.NextContinuationToken = true, out.Contents[pageSize-1].Key
			break
		}
		o := s.objects[k]
		out.Contents = append(out.Contents, content{Key: k, LastModified: o.modified.UTC().Format("2006-01-02T15:04:05.000Z"), ETag: etag(o.body), Size: len(o.body)})
	}
	b, err := xml.Marshal(out)
	if err != nil {
		return http.StatusInternalServerError, fail("InternalError")
	}
	return http.StatusOK, append([]byte(xml.Header), b...)
}

func etag(b []byte) string {
	sum := md5.Sum(b)
	return fmt.Sprintf("%q", hex.EncodeToString(sum[:]))
}
