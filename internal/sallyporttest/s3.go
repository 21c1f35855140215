package sallyporttest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// S3 is a small server of objects: it keeps them and multipart uploads, and takes a request
// only when its signature, calculated here from what came over the wire, is that of the key.
type S3 struct {
	ID, Key, Region string

	mu      sync.Mutex
	objects map[string][]byte // by /BUCKET/KEY
	parts   map[string][]byte
	refused []string
}

// Put keeps an object without asking for a signature.
func (s *S3) Put(path, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(path, []byte(content))
}

func (s *S3) put(path string, content []byte) {
	if s.objects == nil {
		s.objects, s.parts = map[string][]byte{}, map[string][]byte{}
	}
	s.objects[path] = content
}

// Object returns an object, nil when there is none.
func (s *S3) Object(path string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[path]
}

// Refused returns why requests were refused.
func (s *S3) Refused() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

func (s *S3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := s.verified(r) // without the lock: streams of one connection share its window
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
		if s.parts == nil {
			s.put("", nil)
		}
		s.parts[key+"#"+q.Get("partNumber")] = body
		w.Header().Set("Etag", `"part"`)
	case r.Method == "PUT" && r.Header.Get("X-Amz-Copy-Source") != "":
		source, _ := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source"))
		s.put(key, s.objects["/"+strings.TrimPrefix(source, "/")])
		fmt.Fprint(w, `<CopyObjectResult><ETag>"x"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></CopyObjectResult>`)
	case r.Method == "PUT":
		s.put(key, body)
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
		s.put(key, whole)
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
func (s *S3) verified(r *http.Request) ([]byte, error) {
	auth, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential="+s.ID+"/")
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
	if scope != date[:8]+"/"+s.Region+"/s3/aws4_request" {
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
	key := []byte("AWS4" + s.Key)
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
