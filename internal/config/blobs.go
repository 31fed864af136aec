package config

import (
	neturl "net/url"
	"os"
	"strings"
	"time"
)

// minGrace is longer than a blob stays fresh and than any pass takes: what was just
// stored is named by a history long before.
const minGrace = 72 * time.Hour

// checkBlobs finds a bucket that is given by halves, or for nothing.
func (c *Config) checkBlobs(bad func(string, string, ...any)) {
	b := &c.Blobs
	if b.Grace.Std() < minGrace {
		bad("blobs.grace", "%s is too short: give at least %s; a running pass may have stored what no history names yet", b.Grace, minGrace)
	}
	if b.Type != BlobsS3 {
		for _, given := range []struct{ key, value string }{
			{"endpoint", b.Endpoint}, {"bucket", b.Bucket}, {"region", b.Region}, {"prefix", b.Prefix}, {"access_key_file", b.AccessKeyFile}, {"secret_key_file", b.SecretKeyFile}, {"ca_file", b.CAFile},
		} {
			if given.value != "" {
				bad("blobs."+given.key, "is for a bucket: say blobs.type: s3, or take it out")
			}
		}
		return
	}
	if b.Bucket == "" {
		bad("blobs.bucket", "missing: name a bucket that only this installation uses")
	}
	if b.AccessKeyFile == "" {
		bad("blobs.access_key_file", "missing: a file with the access key id that may use the bucket")
	}
	if b.SecretKeyFile == "" {
		bad("blobs.secret_key_file", "missing: a file with the secret access key")
	}
	if b.Region == "" {
		if b.Endpoint == "" {
			bad("blobs.region", "missing: give the bucket's AWS region, or the endpoint of another server")
		}
		b.Region = "us-east-1" // what servers that have no regions expect in signatures
	}
	if u, err := neturl.Parse(b.Endpoint); err == nil && u.Scheme == "http" && !b.AllowPrivate {
		bad("blobs.endpoint", "without TLS it is for servers in the own network: use https, or say blobs.allow_private: true")
	}
	if b.CAFile != "" {
		if _, err := os.Stat(b.CAFile); err != nil {
			bad("blobs.ca_file", "%s cannot be read: check the path and its permissions", b.CAFile)
		}
	}
	if b.Prefix != "" && !strings.HasSuffix(b.Prefix, "/") {
		b.Prefix += "/"
	}
}
