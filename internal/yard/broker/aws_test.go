package broker

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	miniosigner "github.com/minio/minio-go/v7/pkg/signer"

	"github.com/sallyport-ci/sallyport"
)

// store is a small S3 server of the test's own: it keeps objects and multipart uploads, and
// takes a request only when its signature, calculated here from what came over the
// wire, is that of the key.
type store struct {
	mu      sync.Mutex
	objects map[string][]byte
	parts   map[string][]byte
	refused []string
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := verified(r) // without the lock: streams of one connection share its window
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.refused = append(s.refused, err.Error())
		http.Error(w, "<Error><Code>SignatureDoesNotMatch</Code></Error>", http.StatusForbidden)
		return
	}
	key, q := r.URL.Path, r.URL.Query()
	switch {
	case r.Method == "PUT" && q.Get("uploadId") != "":
		s.parts[key+"#"+q.Get("partNumber")] = body
		w.Header().Set("Etag", `"part"`)
	case r.Method == "PUT" && r.Header.Get("X-Amz-Copy-Source") != "":
		source, _ := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source"))
		s.objects[key] = s.objects["/"+strings.TrimPrefix(source, "/")]
		fmt.Fprint(w, `<CopyObjectResult><ETag>"x"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></CopyObjectResult>`)
	case r.Method == "PUT":
		s.objects[key] = body
		w.Header().Set("Etag", `"whole"`)
	case r.Method == "POST" && q.Has("uploads"):
		fmt.Fprint(w, `<InitiateMultipartUploadResult><UploadId>up1</UploadId></InitiateMultipartUploadResult>`)
	case r.Method == "POST" && q.Get("uploadId") != "":
		var whole []byte
		for i := 1; ; i++ {
			p, ok := s.parts[key+"#"+strconv.Itoa(i)]
			if !ok {
				break
			}
			whole = append(whole, p...)
		}
		s.objects[key] = whole
		fmt.Fprint(w, `<CompleteMultipartUploadResult><Bucket>bucket</Bucket><ETag>"x"</ETag></CompleteMultipartUploadResult>`)
	case r.Method == "GET" && q.Has("list-type"):
		type object struct{ Key string }
		var list struct {
			XMLName  xml.Name `xml:"ListBucketResult"`
			Contents []object
		}
		for k := range s.objects {
			if name, ok := strings.CutPrefix(k, "/bucket/"); ok && strings.HasPrefix(name, q.Get("prefix")) {
				list.Contents = append(list.Contents, object{name})
			}
		}
		_ = xml.NewEncoder(w).Encode(list)
	case r.Method == "GET" || r.Method == "HEAD":
		o, ok := s.objects[key]
		if !ok {
			http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
			return
		}
		w.Header().Set("Etag", `"whole"`)
		http.ServeContent(w, r, "", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), bytes.NewReader(o))
	}
}

// verified returns the object in a request, if key and signature are good.
func verified(r *http.Request) ([]byte, error) {
	auth, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIDREAL/")
	if !ok {
		return nil, fmt.Errorf("authorization %q", r.Header.Get("Authorization"))
	}
	scope, rest, _ := strings.Cut(auth, ",")
	rest = strings.ReplaceAll(rest, " ", "")
	names, given, _ := strings.Cut(strings.TrimPrefix(rest, "SignedHeaders="), ",Signature=")
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", date)
	if err != nil || time.Since(at).Abs() > 15*time.Minute {
		return nil, fmt.Errorf("date %q", date)
	}
	if scope != date[:8]+"/eu-central-1/s3/aws4_request" {
		return nil, fmt.Errorf("scope %q", scope)
	}
	signed := strings.Split(names, ";")
	for name := range r.Header { // S3 demands that all of its own are signed
		if n := strings.ToLower(name); strings.HasPrefix(n, "x-amz-") && !slices.Contains(signed, n) {
			return nil, fmt.Errorf("%s is not signed", n)
		}
	}
	path, query, _ := strings.Cut(r.RequestURI, "?")
	pairs := strings.Split(query, "&")
	for i, p := range pairs {
		if p != "" && !strings.Contains(p, "=") {
			pairs[i] += "="
		}
	}
	slices.Sort(pairs)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n%s\n", r.Method, path, strings.Join(pairs, "&"))
	for _, n := range signed {
		v := strings.Join(r.Header.Values(n), ",")
		if n == "host" {
			v = r.Host
		}
		fmt.Fprintf(&b, "%s:%s\n", n, strings.Join(strings.Fields(v), " "))
	}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	fmt.Fprintf(&b, "\n%s\n%s", names, payload)
	key := []byte("AWS4" + canary)
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	sign := func(key []byte, s string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(s))
		return m.Sum(nil)
	}
	for part := range strings.SplitSeq(scope, "/") {
		key = sign(key, part)
	}
	want := hex.EncodeToString(sign(key, "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+sum(b.String())))
	if given != want {
		return nil, fmt.Errorf("signature of %q", b.String())
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(payload, "STREAMING-") {
		if payload != "UNSIGNED-PAYLOAD" && payload != sum(string(body)) {
			return nil, fmt.Errorf("the body is not what %s says", payload)
		}
		return body, nil
	}
	var object []byte
	for previous := given; ; {
		line, rest, ok := strings.Cut(string(body), "\r\n")
		size, sig, hasSig := strings.Cut(line, ";chunk-signature=")
		n, err := strconv.ParseInt(size, 16, 64)
		if !ok || err != nil || int(n) > len(rest) {
			return nil, fmt.Errorf("chunk %.100q", line)
		}
		data := rest[:n]
		if hasSig != strings.HasPrefix(payload, "STREAMING-AWS4-") {
			return nil, fmt.Errorf("a chunk %.100q of %s", line, payload)
		}
		if hasSig {
			want := hex.EncodeToString(sign(key, "AWS4-HMAC-SHA256-PAYLOAD\n"+date+"\n"+scope+"\n"+previous+"\n"+sum("")+"\n"+sum(data)))
			if sig != want {
				return nil, fmt.Errorf("signature of a chunk of %d", n)
			}
			previous = sig
		}
		object, body = append(object, data...), []byte(rest[n:])
		if n > 0 {
			body = bytes.TrimPrefix(body, []byte("\r\n"))
			continue
		}
		if payload == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" {
			lines := strings.Split(string(body), "\r\n")
			want := hex.EncodeToString(sign(key, "AWS4-HMAC-SHA256-TRAILER\n"+date+"\n"+scope+"\n"+previous+"\n"+sum(lines[0])))
			if lines[1] != "x-amz-trailer-signature:"+want {
				return nil, fmt.Errorf("trailers %q", body)
			}
		}
		if got := r.Header.Get("X-Amz-Decoded-Content-Length"); got != strconv.Itoa(len(object)) {
			return nil, fmt.Errorf("%d bytes, said to be %s", len(object), got)
		}
		return object, nil
	}
}

func s3Bench(t *testing.T, methods ...string) (*store, *bench) {
	s := &store{objects: map[string][]byte{"/bucket/secret/x": []byte("not for the job"), "/bucket/team/old": []byte("old")}, parts: map[string][]byte{}}
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
			t.Fatalf("put %s: %v\n%q", name, err, s.refused)
		}
		o, err := client.GetObject(ctx, "bucket", name, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(o); err != nil || !bytes.Equal(got, contents[i]) {
			t.Errorf("get %s: %d bytes, %v, %q", name, len(got), err, s.refused)
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
		t.Errorf("presigned: %d %q, %q", answer.StatusCode, body, s.refused)
	}
	for _, path := range []string{"/bucket/team/old?acl", "/bucket/team/old?tagging"} {
		if answer, body := n.do("PUT", "s3", path, strings.NewReader("x")); answer.StatusCode != 403 || !strings.Contains(body, "of a bucket or an object") {
			t.Errorf("%s: %d %q", path, answer.StatusCode, body)
		}
	}
	if answer, _ := n.do("PUT", "s3", "/bucket/team/old", strings.NewReader("x"), "X-Amz-Acl", "public-read"); answer.StatusCode != 403 {
		t.Errorf("public: %d", answer.StatusCode)
	}
	if len(s.refused) > 0 {
		t.Errorf("the store refused %q", s.refused)
	}
	if _, ok := s.objects["/bucket/other/x"]; ok || s.objects["/bucket/team/copy"] == nil {
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
		if answer.StatusCode != 200 || !bytes.Equal(s.objects["/bucket/team/chunks"], object) {
			t.Errorf("trailer %v: %d %s, stored %d bytes, refused %q", trailer, answer.StatusCode, body, len(s.objects["/bucket/team/chunks"]), s.refused)
		}
	}
}

type hasher struct{ hash.Hash }

func (hasher) Close() {}
