package s3blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"rekey/internal/fsx"
	"rekey/internal/httpx"
)

// bucket is the few calls that a store needs of S3. It relies on what S3 promises
// since 2020 and 2024: a read or list sees every write that was answered before
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel),
// and a put with If-None-Match makes an object or fails
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
type bucket struct {
	s3       *s3.Client
	name     string
	prefix   string
	endpoint string // for messages
}

// Errors of bucket. They hold no text of the server.
var (
	errExists = errors.New("the object is there already")
	errAbsent = errors.New("there is no such object")
)

// object is what a list tells of one.
type object struct {
	key  string // without the prefix
	size int64
	// age is by the server's clock.
	age time.Duration
}

// callLimit bounds one call with all its repeats, for content of size bytes.
func callLimit(size int) time.Duration {
	return 20*time.Second + time.Duration(size/(1<<20))*time.Second
}

// put writes an object. With absent it fails with errExists where there is one. When
// an answer is lost the call is repeated, so errExists may mean our own object.
func (b *bucket) put(ctx context.Context, key string, content []byte, absent bool) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit(len(content)))
	defer cancel()
	in := &s3.PutObjectInput{Bucket: &b.name, Key: aws.String(b.prefix + key), Body: bytes.NewReader(content), ContentLength: aws.Int64(int64(len(content)))}
	if absent {
		in.IfNoneMatch = aws.String("*")
	}
	out, err := b.s3.PutObject(ctx, in)
	if err == nil && aws.ToString(out.ETag) == "" {
		err = errNotS3
	}
	return b.fault(ctx, key, err)
}

// get reads an object of at most most bytes. It fails with errAbsent.
func (b *bucket) get(ctx context.Context, key string, most int) ([]byte, object, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit(most))
	defer cancel()
	for again := false; ; again = true {
		out, err := b.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: aws.String(b.prefix + key)})
		if err != nil {
			return nil, object{}, b.fault(ctx, key, err)
		}
		content, err := io.ReadAll(io.LimitReader(out.Body, int64(most)+1))
		_ = out.Body.Close()
		if err != nil && !again { // the SDK repeats the request, not the reading of its answer
			continue
		}
		if err == nil && len(content) > most {
			err = httpx.ErrTooLarge
		}
		if err == nil && aws.ToString(out.ETag) == "" {
			err = errNotS3
		}
		if err != nil {
			return nil, object{}, b.fault(ctx, key, err)
		}
		return content, object{key: key, size: int64(len(content)), age: age(out.ResultMetadata, out.LastModified)}, nil
	}
}

// head looks at an object. It fails with errAbsent.
func (b *bucket) head(ctx context.Context, key string) (object, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit(0))
	defer cancel()
	out, err := b.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: aws.String(b.prefix + key)})
	if err == nil && aws.ToString(out.ETag) == "" {
		err = errNotS3
	}
	if err != nil {
		return object{}, b.fault(ctx, key, err)
	}
	return object{key: key, size: aws.ToInt64(out.ContentLength), age: age(out.ResultMetadata, out.LastModified)}, nil
}

// remove deletes objects. One that is not there is no error.
func (b *bucket) remove(ctx context.Context, keys ...string) error {
	for len(keys) > 0 {
		n := min(len(keys), 1000) // https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
		if err := b.removeSome(ctx, keys[:n]); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

func (b *bucket) removeSome(ctx context.Context, keys []string) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit(0))
	defer cancel()
	if len(keys) == 1 {
		_, err := b.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: aws.String(b.prefix + keys[0])})
		return b.fault(ctx, keys[0], err)
	}
	in := &s3.DeleteObjectsInput{Bucket: &b.name, Delete: &types.Delete{Quiet: aws.Bool(true)}}
	for _, k := range keys {
		in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: aws.String(b.prefix + k)})
	}
	out, err := b.s3.DeleteObjects(ctx, in)
	if err == nil && len(out.Errors) > 0 {
		e := out.Errors[0]
		err = &smithy.GenericAPIError{Code: aws.ToString(e.Code)}
	}
	return b.fault(ctx, keys[0], err)
}

// list gives the objects whose keys begin with prefix, in the order of their keys,
// until f fails.
func (b *bucket) list(ctx context.Context, prefix string, f func(object) error) error {
	in := &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: aws.String(b.prefix + prefix)}
	for {
		out, err := b.listPage(ctx, in)
		if err != nil {
			return b.fault(ctx, prefix, err)
		}
		for _, o := range out.Contents {
			key, ok := strings.CutPrefix(aws.ToString(o.Key), b.prefix)
			if !ok || !strings.HasPrefix(key, prefix) {
				return b.fault(ctx, prefix, errNotS3)
			}
			if err := f(object{key: key, size: aws.ToInt64(o.Size), age: age(out.ResultMetadata, o.LastModified)}); err != nil {
				return err
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return nil
		}
		if aws.ToString(out.NextContinuationToken) == "" {
			return b.fault(ctx, prefix, errNotS3)
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}

func (b *bucket) listPage(ctx context.Context, in *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit(0))
	defer cancel()
	out, err := b.s3.ListObjectsV2(ctx, in)
	if err == nil && aws.ToString(out.Name) != b.name { // a page that is not S3's parses as an empty list
		err = errNotS3
	}
	return out, err
}

// age is how long ago something was written, by the server's own clock; it counts
// whole seconds.
func age(meta middleware.Metadata, modified *time.Time) time.Duration {
	now, ok := awsmiddleware.GetServerTime(meta)
	if !ok || modified == nil {
		return 0 // young: nothing is ever done to it for its age
	}
	return max(0, now.Sub(*modified))
}

// errNotS3: a success that S3 cannot have said, such as a proxy's page.
var errNotS3 = errors.New("the answer is not one of S3")

// A Fault says why the bucket could not be used, and what to do about it.
type Fault struct {
	Where string // bucket and endpoint
	What  string
	Do    string
	// Code is S3's own, for those who know it; "" where there was no answer.
	Code string
	// Again: the same call may succeed later without anybody doing anything.
	Again bool
	Err   error
}

func (e *Fault) Error() string {
	code := ""
	if e.Code != "" {
		code = " (" + e.Code + ")"
	}
	return e.Where + ": " + e.What + code + ": " + e.Do
}

func (e *Fault) Unwrap() error { return e.Err }

// fault turns what the SDK gives into errors of this package. No text of the server
// goes into one; of its codes only those that are words.
func (b *bucket) fault(ctx context.Context, key string, err error) error {
	if err == nil {
		return nil
	}
	var own *credentialError
	if errors.As(err, &own) {
		return own
	}
	var api smithy.APIError
	var resp *awshttp.ResponseError
	code, status := "", 0
	if errors.As(err, &api) && word(api.ErrorCode()) {
		code = api.ErrorCode()
	}
	if errors.As(err, &resp) {
		status = resp.HTTPStatusCode()
	}
	f := &Fault{Where: b.at(), Code: code}
	switch {
	case status == http.StatusPreconditionFailed:
		return errExists
	case code == "NoSuchKey" || code == "NotFound": // the latter of HEAD, which has no body
		return errAbsent
	case code == "NoSuchBucket":
		f.What, f.Do = "there is no such bucket", "make it, or "+"mend blobs.bucket in rekey.yaml"
	case code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch" || code == "InvalidToken" || code == "ExpiredToken":
		f.What, f.Do = "our credential is not taken", "put the right keys into blobs.access_key_file and blobs.secret_key_file"
	case code == "RequestTimeTooSkewed":
		f.What, f.Do = "the clocks differ too much", "set this host's clock by NTP"
	case code == "AuthorizationHeaderMalformed" || code == "PermanentRedirect" || code == "TemporaryRedirect" || errors.Is(err, httpx.ErrRedirect):
		f.What, f.Do = "the bucket is elsewhere", "set blobs.region and blobs.endpoint to where it is"
	case full(status, code):
		return &fsx.DiskFullError{Path: f.Where, Err: err}
	case status == http.StatusForbidden:
		f.What, f.Do = "we may not do this to "+b.prefix+key, "allow our key s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there"
	case errors.Is(err, httpx.ErrAddress):
		f.What, f.Do = "its address is private", "set blobs.allow_private: true if that is meant"
	case errors.Is(err, errNotS3):
		f.What, f.Do = "something that is not S3 answers", "is a proxy in between? set blobs.endpoint to the S3 endpoint itself"
	case errors.Is(err, httpx.ErrTooLarge):
		f.What, f.Do = b.prefix+key+" is larger than anything rekey keeps", "it was put there by somebody else: remove it, or restore it from backup"
	case status == http.StatusTooManyRequests || status >= http.StatusInternalServerError || code == "ConditionalRequestConflict" || code == "SlowDown":
		f.What, f.Do, f.Again = "it cannot answer now", "the step is repeated by itself", true
	case status == 0:
		f.What, f.Do, f.Again = "it does not answer", "is it up, and blobs.endpoint right? The step is repeated by itself", true
		if e := ctx.Err(); e != nil {
			f.Err = e
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() && f.Err == nil {
			f.Err = context.DeadlineExceeded
		}
	default:
		f.What, f.Do = "it refuses the call", "look up the code; does the server speak S3 with conditional writes?"
	}
	return f
}

// full tells that there is no room: of MinIO and Ceph, AWS knows no such thing.
func full(status int, code string) bool {
	return status == http.StatusInsufficientStorage || code == "QuotaExceeded" || code == "XMinioStorageFull" || code == "XMinioAdminBucketQuotaExceeded"
}

func word(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return len(s) <= 64
}
