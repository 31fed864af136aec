// Package s3blob keeps blobs and journals in a bucket that speaks S3, for workers on
// several hosts: what one host has written survives it.
//
//	<prefix>store.json                             whose bucket this is
//	<prefix>sha256/<64 hex digits>                 blobs
//	<prefix>journals/<name>/<term>/<number>        journals, one object per group of records
//	<prefix>journals/<name>/late.<term>/<number>   what a holder wrote after it was fenced
//	<prefix>locks/<name>/<holder>                  locks between processes
//	<prefix>names/<name>                           small documents by name
//	<prefix>probes/<random>                        of rekey doctor, gone at once
//
// A journal's '/' is written '~'. Everything but store.json is encrypted under the
// codec keys, bound to its place, and checked when it is read.
//
// The bucket must honour If-None-Match when it is written and be consistent: AWS S3
// and MinIO are. Open finds out.
package s3blob

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"rekey/internal/blob"
	"rekey/internal/codec/keyring"
	"rekey/internal/fsx"
	"rekey/internal/httpx"
)

// Options of a Store.
type Options struct {
	// Endpoint is the URL of the server, its bucket in the path; empty: AWS's own of
	// Region.
	Endpoint, Region, Bucket string
	// Prefix is put before every key, for buckets with other things in them; it ends
	// with a slash, or is empty.
	Prefix string
	// AccessKeyFile and SecretKeyFile are read for each call, so that a rotated
	// credential counts at once.
	AccessKeyFile, SecretKeyFile string
	CAFile                       string
	AllowPrivate                 bool
	Keys                         *keyring.Keyring
	// Owner names the installation; a bucket of another one is refused.
	Owner string
}

// A Store is blobs and journals in a bucket. It is safe for concurrent use.
type Store struct {
	b     *bucket
	keys  *keyring.Keyring
	owner string
	idle  func()
	// How long a lock lasts without being renewed, and how often it is.
	lockAge, lockRenew time.Duration

	readyMu sync.Mutex
	isReady bool

	mu   sync.Mutex
	open map[string]*journal // journals open in this process
}

var (
	_ blob.Store    = (*Store)(nil)
	_ blob.Journals = (*Store)(nil)
)

// maxCredential bounds a file with half of a credential.
const maxCredential = 4 << 10

// New makes a store. It reaches for no network; the first use does, or Ready.
func New(o Options) (*Store, error) { return newStore(o, 2*time.Second) }

func newStore(o Options, backoff time.Duration) (*Store, error) {
	client, err := httpx.New(httpx.Options{
		// Each call has a limit of its own, of its size.
		Timeout: callLimit(blob.MaxSize), MaxBody: blob.MaxSize + 1<<20, AllowPrivate: o.AllowPrivate, CAFile: o.CAFile,
	})
	if err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	so := s3.Options{
		Region:      o.Region,
		HTTPClient:  client,
		Credentials: aws.CredentialsProviderFunc(o.credential),
		Retryer: retry.NewStandard(func(r *retry.StandardOptions) {
			r.MaxAttempts, r.MaxBackoff = attempts, backoff
			r.RateLimiter = ratelimit.None // callLimit bounds the repeats of a call, and no other call pays for them
		}),
		// What is written is authenticated by its encryption; servers that are not
		// AWS's may not know the checksums that the SDK would add.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	where := "AWS " + o.Region
	if o.Endpoint != "" {
		so.BaseEndpoint, so.UsePathStyle, where = aws.String(strings.TrimSuffix(o.Endpoint, "/")), true, o.Endpoint
	}
	return &Store{
		b:    &bucket{s3: s3.New(so), name: o.Bucket, prefix: o.Prefix, endpoint: where},
		keys: o.Keys, owner: o.Owner, idle: client.CloseIdleConnections, lockAge: lockAge, lockRenew: lockRenew, open: map[string]*journal{},
	}, nil
}

// attempts is how often a call is made before it has failed.
const attempts = 4

// A credentialError says which half of our credential cannot be used.
type credentialError struct {
	key string
	err error
}

func (e *credentialError) Error() string { return e.key + " cannot be used: " + e.err.Error() }

func (e *credentialError) Unwrap() error { return e.err }

func (o Options) credential(context.Context) (aws.Credentials, error) {
	var out aws.Credentials
	for _, part := range []struct {
		key, file string
		to        *string
	}{{"blobs.access_key_file", o.AccessKeyFile, &out.AccessKeyID}, {"blobs.secret_key_file", o.SecretKeyFile, &out.SecretAccessKey}} {
		raw, err := fsx.ReadPrivate(part.file, maxCredential)
		if err != nil {
			return aws.Credentials{}, &credentialError{part.key, err}
		}
		*part.to = string(bytes.TrimSpace(raw))
		clear(raw)
		if *part.to == "" {
			return aws.Credentials{}, &credentialError{part.key, errors.New(part.file + " is empty: put the key there")}
		}
	}
	return out, nil
}

// owned is store.json.
type owned struct {
	V     int    `json:"v"`
	Owner string `json:"owner"`
}

const ownerKey = "store.json"

// An OwnerError says that a bucket is another installation's.
type OwnerError struct{ Where string }

func (e *OwnerError) Error() string {
	return e.Where + " is another rekey installation's: give this one a bucket or blobs.prefix of its own; what cleans up here would delete what the other one needs"
}

// Ready makes sure that the bucket can be used: it is there, may be read and written,
// belongs to this installation and honours conditional writes. Once it has succeeded it
// asks no more.
func (s *Store) Ready(ctx context.Context) error {
	s.readyMu.Lock()
	defer s.readyMu.Unlock()
	if s.isReady {
		return nil
	}
	if err := s.claim(ctx); err != nil {
		return fmt.Errorf("blob store: %w", err)
	}
	s.isReady = true
	return nil
}

func (s *Store) claim(ctx context.Context) error {
	mine, err := json.Marshal(owned{V: 1, Owner: s.owner})
	if err != nil {
		return err
	}
	raw, _, err := s.b.get(ctx, ownerKey, maxCredential)
	if errors.Is(err, errAbsent) {
		if err := s.b.put(ctx, ownerKey, mine, true); err != nil && !errors.Is(err, errExists) {
			return err
		}
		raw, _, err = s.b.get(ctx, ownerKey, maxCredential)
	}
	if err != nil {
		return err
	}
	var have owned
	if json.Unmarshal(raw, &have) != nil || have.Owner != s.owner {
		return &OwnerError{Where: s.b.at()}
	}
	if err := s.b.put(ctx, ownerKey, mine, true); !errors.Is(err, errExists) {
		if err != nil {
			return err
		}
		return &Fault{Where: s.b.at(), What: "it takes conditional writes (If-None-Match) and does not honour them", Do: "use a server that does, such as AWS S3 or MinIO: without it two workers could both believe that they hold a journal"}
	}
	return nil
}

func (b *bucket) at() string {
	if b.prefix != "" {
		return "bucket " + b.name + "/" + strings.TrimSuffix(b.prefix, "/") + " at " + b.endpoint
	}
	return "bucket " + b.name + " at " + b.endpoint
}

func blobKey(hash string) (string, error) {
	digits, ok := strings.CutPrefix(hash, "sha256:")
	if !ok || !blob.ValidHash(hash) {
		return "", errors.New("blob store: not a blob hash: want sha256: and 64 hex digits")
	}
	return "sha256/" + digits, nil
}

// headFrom is the stored size from which Put looks before it sends.
const headFrom = 1 << 20

// Put implements blob.Store. What is new costs one request.
func (s *Store) Put(ctx context.Context, plaintext []byte) (string, error) {
	if err := s.Ready(ctx); err != nil {
		return "", err
	}
	hash, stored, err := blob.Encode(s.keys, plaintext)
	if err != nil {
		return "", err
	}
	key, err := blobKey(hash)
	if err != nil {
		return "", err
	}
	if len(stored) >= headFrom {
		_, err = s.b.head(ctx, key)
		if err == nil {
			err = errExists
		}
	}
	if len(stored) < headFrom || errors.Is(err, errAbsent) {
		err = s.b.put(ctx, key, stored, true)
	}
	if errors.Is(err, errExists) {
		err = s.again(ctx, hash, key, stored)
	}
	if err != nil {
		return "", fmt.Errorf("blob store: %w", err)
	}
	return hash, nil
}

// again keeps content that is there: damage is mended, and what is old is made young,
// so that the collector leaves it.
func (s *Store) again(ctx context.Context, hash, key string, stored []byte) error {
	_, o, err := s.read(ctx, hash, key)
	var corrupt *blob.CorruptError
	var missing *blob.NotFoundError
	switch {
	case err == nil && o.age < blob.Fresh:
		return nil
	case err == nil, errors.As(err, &corrupt), errors.As(err, &missing):
	default:
		return err
	}
	for {
		if err := s.b.put(ctx, key, stored, false); err != nil {
			return err
		}
		// A collector that looked before may delete it after.
		if err := s.awaitNoSweep(ctx); err != nil {
			return err
		}
		if _, err := s.b.head(ctx, key); !errors.Is(err, errAbsent) {
			return err
		}
	}
}

// Get implements blob.Store.
func (s *Store) Get(ctx context.Context, hash string) ([]byte, error) {
	key, err := blobKey(hash)
	if err != nil {
		return nil, err
	}
	if err := s.Ready(ctx); err != nil {
		return nil, err
	}
	content, _, err := s.read(ctx, hash, key)
	return content, err
}

func (s *Store) read(ctx context.Context, hash, key string) ([]byte, object, error) {
	stored, o, err := s.b.get(ctx, key, blob.MaxStored)
	if errors.Is(err, errAbsent) {
		return nil, o, &blob.NotFoundError{Hash: hash}
	}
	if err != nil {
		return nil, o, fmt.Errorf("blob store: %w", err)
	}
	content, err := blob.Decode(s.keys, hash, stored)
	return content, o, err
}

// Has implements blob.Store.
func (s *Store) Has(ctx context.Context, hash string) (bool, error) {
	key, err := blobKey(hash)
	if err != nil {
		return false, err
	}
	if err := s.Ready(ctx); err != nil {
		return false, err
	}
	_, err = s.b.head(ctx, key)
	if errors.Is(err, errAbsent) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("blob store: %w", err)
	}
	return true, nil
}

// Close lets idle connections go.
func (s *Store) Close() { s.idle() }
