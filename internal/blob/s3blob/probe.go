package s3blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// probes is where Probe makes its object.
const probes = "probes/"

// Probe does once what the store needs to be allowed: it makes an object, finds, reads
// and deletes it. It gives how much the server's clock is ahead of ours, in whole
// seconds.
func (s *Store) Probe(ctx context.Context) (skew time.Duration, err error) {
	if err := s.Ready(ctx); err != nil {
		return 0, err
	}
	if skew, err = s.b.clock(ctx); err != nil {
		return 0, fmt.Errorf("blob store: %w", err)
	}
	key, content := probes+rand.Text(), []byte("rekey doctor")
	if err := s.b.put(ctx, key, content, true); err != nil {
		return 0, fmt.Errorf("blob store: %w", err)
	}
	found := false
	err = s.b.list(ctx, probes, func(o object) error { found = found || o.key == key; return nil })
	var got []byte
	if err == nil {
		got, _, err = s.b.get(ctx, key, len(content))
	}
	if err == nil && (!found || !bytes.Equal(got, content)) {
		err = &Fault{Where: s.b.at(), What: "what was written a moment ago cannot be listed or read", Do: "use a server that is consistent after a write, such as AWS S3 or MinIO"}
	}
	if gone := s.b.remove(ctx, key); err == nil {
		err = gone
	}
	if err != nil {
		return 0, fmt.Errorf("blob store: %w", err)
	}
	return skew, nil
}

// clock compares the server's clock with ours.
func (b *bucket) clock(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit(0))
	defer cancel()
	before := time.Now()
	out, err := b.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.name})
	if err != nil {
		return 0, b.fault(ctx, "", err)
	}
	theirs, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !ok {
		return 0, nil
	}
	ours := before.Add(time.Since(before) / 2)
	return theirs.Sub(ours).Truncate(time.Second), nil
}
