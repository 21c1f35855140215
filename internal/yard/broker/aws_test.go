package broker

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	miniosigner "github.com/minio/minio-go/v7/pkg/signer"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

func s3Bench(t *testing.T, methods ...string) (*sallyporttest.S3, *bench) {
	s := &sallyporttest.S3{ID: "AKIDREAL", Key: canary, Region: "eu-central-1"}
	s.Put("/bucket/secret/x", "not for the job")
	s.Put("/bucket/team/old", "old")
	return s, newBench(t, s, sallyport.CredentialRule{Kind: sallyport.CredentialAWS, User: "AKIDREAL", Host: "s3.example.com", Region: "eu-central-1", Service: "s3",
		Methods: methods, Paths: []string{"/bucket/team/"}})
}

// TestS3ByMinioGo drives the store with a client that has a key which opens nothing.
func TestS3ByMinioGo(t *testing.T) {
	t.Parallel()
	s, n := s3Bench(t, "GET", "HEAD", "PUT", "POST")
	client, err := minio.New(fmt.Sprintf("s3.example.com:%d", n.port), &minio.Options{
		Creds: credentials.NewStaticV4("DUMMY", "dummydummy", "session"), Secure: true, Region: "us-east-1", Transport: n.client.Transport, BucketLookup: minio.BucketLookupPath, TrailingHeaders: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	names := []string{"team/small", "team/with space +&é.txt", "team/big"}
	contents := [][]byte{[]byte("small"), []byte("odd"), bytes.Repeat([]byte("0123456789abcdef"), 700_000)}
	for i, name := range names {
		options := minio.PutObjectOptions{ContentType: "text/plain", UserMetadata: map[string]string{"Who": "a  job"}, PartSize: 5 << 20}
		if _, err := client.PutObject(ctx, "bucket", name, bytes.NewReader(contents[i]), int64(len(contents[i])), options); err != nil {
			t.Fatalf("put %s: %v\n%q", name, err, s.Refused())
		}
		o, err := client.GetObject(ctx, "bucket", name, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(o); err != nil || !bytes.Equal(got, contents[i]) {
			t.Errorf("get %s: %d bytes, %v, %q", name, len(got), err, s.Refused())
		}
	}
	if _, err := client.PutObject(ctx, "bucket", "other/x", strings.NewReader("x"), 1, minio.PutObjectOptions{}); err == nil || !strings.Contains(err.Error(), "403") && !strings.Contains(err.Error(), "ccess") {
		t.Errorf("another prefix: %v", err)
	}
	if err := client.RemoveObject(ctx, "bucket", "team/small", minio.RemoveObjectOptions{}); err == nil {
		t.Error("the job could delete")
	}
	copied := minio.CopyDestOptions{Bucket: "bucket", Object: "team/copy"}
	if _, err := client.CopyObject(ctx, copied, minio.CopySrcOptions{Bucket: "bucket", Object: "secret/x"}); err == nil {
		t.Error("the job could copy what it may not read")
	}
	if _, err := client.CopyObject(ctx, copied, minio.CopySrcOptions{Bucket: "bucket", Object: "team/old"}); err != nil {
		t.Errorf("copy: %v", err)
	}
	presigned, err := client.PresignedGetObject(ctx, "bucket", "team/old", time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, body := n.do("GET", "s3", presigned.RequestURI(), nil); answer.StatusCode != 200 || body != "old" {
		t.Errorf("presigned: %d %q, %q", answer.StatusCode, body, s.Refused())
	}
	for _, path := range []string{"/bucket/team/old?acl", "/bucket/team/old?tagging"} {
		if answer, body := n.do("PUT", "s3", path, strings.NewReader("x")); answer.StatusCode != 403 || !strings.Contains(body, "of a bucket or an object") {
			t.Errorf("%s: %d %q", path, answer.StatusCode, body)
		}
	}
	for _, acl := range []string{"public-read", "authenticated-read", "aws-exec-read", " Public-Read"} {
		if answer, _ := n.do("PUT", "s3", "/bucket/team/old", strings.NewReader("x"), "X-Amz-Acl", acl); answer.StatusCode != 403 {
			t.Errorf("%s: %d", acl, answer.StatusCode)
		}
	}
	for _, acl := range []string{"private", "bucket-owner-full-control"} {
		if answer, body := n.do("PUT", "s3", "/bucket/team/old", strings.NewReader("old"), "X-Amz-Acl", acl); answer.StatusCode != 200 {
			t.Errorf("%s: %d %q", acl, answer.StatusCode, body)
		}
	}
	for name, values := range map[string][]string{"X-Amz-Acl": {"private", "public-read"}, "X-Amz-Copy-Source": {"/bucket/team/old", "/bucket/secret/x"}} {
		req, _ := http.NewRequest("PUT", fmt.Sprintf("https://s3.example.com:%d/bucket/team/twice", n.port), nil)
		req.Header[name] = values
		answer, err := n.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != 403 {
			t.Errorf("%s twice: %d", name, answer.StatusCode)
		}
	}
	if len(s.Refused()) > 0 {
		t.Errorf("the store refused %q", s.Refused())
	}
	if s.Object("/bucket/other/x") != nil || s.Object("/bucket/team/copy") == nil {
		t.Error("what was stored is not what was allowed")
	}
}

// TestS3ChunksSignedByTheJob sends bodies in chunks that minio-go signed with the job's key.
func TestS3ChunksSignedByTheJob(t *testing.T) {
	t.Parallel()
	for _, trailer := range []bool{false, true} {
		s, n := s3Bench(t, "PUT")
		object := bytes.Repeat([]byte("chunked "), 20_000)
		req, _ := http.NewRequest("PUT", fmt.Sprintf("https://s3.example.com:%d/bucket/team/chunks", n.port), io.NopCloser(bytes.NewReader(object)))
		if trailer {
			req.Trailer = http.Header{"X-Amz-Checksum-Crc32c": {"AAAAAA=="}}
		}
		req = miniosigner.StreamingSignV4(req, "DUMMY", "dummydummy", "", "us-east-1", int64(len(object)), time.Now().UTC(), hasher{sha256.New()})
		answer, err := n.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != 200 || !bytes.Equal(s.Object("/bucket/team/chunks"), object) {
			t.Errorf("trailer %v: %d %s, stored %d bytes, refused %q", trailer, answer.StatusCode, body, len(s.Object("/bucket/team/chunks")), s.Refused())
		}
	}
}

type hasher struct{ hash.Hash }

func (hasher) Close() {}
