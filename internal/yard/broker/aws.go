package broker

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const (
	// maxHashed is how much of a body is held to be hashed, where a service takes no unsigned
	// one; calls of AWS other than to S3 are far smaller.
	maxHashed = 16 << 20

	unsignedPayload = "UNSIGNED-PAYLOAD"
	unsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	signedChunks    = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	signedTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
)

// s3Queries are the query parameters that are passed on to S3: those that read, list and write
// objects. The others name parts of a bucket or an object ("acl", "policy", "website") whose
// change would let others in.
var s3Queries = map[string]bool{
	"uploads": true, "uploadId": true, "partNumber": true, "list-type": true, "prefix": true, "delimiter": true, "continuation-token": true,
	"max-keys": true, "start-after": true, "encoding-type": true, "fetch-owner": true, "marker": true, "versionId": true, "versions": true,
	"key-marker": true, "version-id-marker": true, "upload-id-marker": true, "max-uploads": true, "part-number-marker": true, "max-parts": true,
	"location": true, "attributes": true, "x-id": true, "response-content-type": true, "response-content-language": true, "response-expires": true,
	"response-cache-control": true, "response-content-disposition": true, "response-content-encoding": true,
}

// resign replaces the signature that the job made with a key that opens nothing by
// one of the credential.
func (b *Broker) resign(l *lent, out, in *http.Request) error {
	if strings.HasPrefix(in.Header.Get("Authorization"), "AWS4-ECDSA-P256-SHA256") {
		return refuse("requests signed for several regions (SigV4A) cannot be signed anew", "give the client one region")
	}
	s3 := l.Rule.Service == "s3"
	q := out.URL.Query()
	for name := range q { // of a presigned address
		if n := strings.ToLower(name); strings.HasPrefix(n, "x-amz-") && n != "x-amz-checksum-mode" || n == "awsaccesskeyid" || n == "signature" {
			q.Del(name)
		} else if s3 && !s3Queries[name] {
			return refuse(fmt.Sprintf("the credential %s is not lent for %.40q of a bucket or an object", l.Rule.Name, name), "a job reads, lists and writes objects; what belongs to the bucket is changed elsewhere")
		}
	}
	out.URL.RawQuery = canonicalQuery(q)
	for _, name := range []string{"X-Amz-Date", "X-Amz-Security-Token", "Date", "Amz-Sdk-Invocation-Id", "Amz-Sdk-Request"} {
		out.Header.Del(name)
	}
	for name, values := range out.Header {
		if strings.HasPrefix(name, "X-Amz-Grant-") || name == "X-Amz-Acl" && slices.ContainsFunc(values, opensUp) {
			return refuse(fmt.Sprintf("the credential %s is not lent to give access to others", l.Rule.Name), "leave the object's access to its bucket")
		}
	}
	switch sources := out.Header.Values("X-Amz-Copy-Source"); {
	case len(sources) > 1:
		return refuse("the request names several objects to copy from", "send X-Amz-Copy-Source once")
	case len(sources) == 1:
		if err := mayCopy(l, sources[0]); err != nil {
			return err
		}
	}

	sig := signer{id: l.Rule.User, key: l.Value.Reveal(), region: l.Rule.Region, service: l.Rule.Service, at: b.cfg.Clock().UTC()}
	payload, err := hashed(out, s3)
	if err != nil {
		return err
	}
	out.Header.Set("X-Amz-Content-Sha256", payload)
	seed := sig.sign(out, payload)
	if payload == signedChunks || payload == signedTrailer {
		body := out.Body
		out.Body = struct {
			io.Reader
			io.Closer
		}{newRechunker(body, sig, seed, payload == signedTrailer), body}
	}
	return nil
}

// opensUp reports whether a canned access list may let in others than the bucket's owner.
func opensUp(acl string) bool {
	return acl != "private" && !strings.HasPrefix(acl, "bucket-owner-")
}

// hashed returns what stands for the body in the signature: the job's word, where it gave one, since
// the server checks it.
func hashed(out *http.Request, s3 bool) (string, error) {
	payload := out.Header.Get("X-Amz-Content-Sha256")
	switch payload {
	case unsignedPayload, unsignedTrailer, signedChunks, signedTrailer:
		return payload, nil
	case "":
		if s3 {
			return unsignedPayload, nil // TLS keeps it whole
		}
	default:
		if sum, err := hex.DecodeString(payload); err == nil && len(sum) == 32 {
			return payload, nil
		}
		return "", refuse(fmt.Sprintf("the payload %.60q cannot be signed anew", payload), "let the client send the body's SHA-256 or UNSIGNED-PAYLOAD")
	}
	body, err := io.ReadAll(io.LimitReader(out.Body, maxHashed+1))
	if err != nil {
		return "", err
	}
	if len(body) > maxHashed {
		return "", refuse(fmt.Sprintf("a body of more than %d MiB cannot be signed here", maxHashed>>20), "let the client send X-Amz-Content-Sha256")
	}
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(body) == 0 {
		out.Body = http.NoBody
	}
	return hexSum(body), nil
}

// mayCopy checks the object that S3 is to copy from: the job must be allowed to read it.
func mayCopy(l *lent, source string) error {
	source, _, _ = strings.Cut(source, "?")
	path, err := canonicalPath(&url.URL{Path: mustUnescape(source), RawPath: "/" + strings.TrimPrefix(source, "/")})
	if bucket, _, ok := strings.Cut(l.host, "."); ok && err == nil { // the host names the bucket
		if rest, ok := strings.CutPrefix(path, "/"+bucket+"/"); ok && allowsPath(l.Rule, "/"+rest) && allowsMethod(l.Rule, http.MethodGet) {
			return nil
		}
	}
	if err != nil || !allowsPath(l.Rule, path) || !allowsMethod(l.Rule, http.MethodGet) {
		return refuse(fmt.Sprintf("the credential %s is not lent to read what the object is copied from", l.Rule.Name), "add the source's path, and GET, to the rule")
	}
	return nil
}

func mustUnescape(s string) string {
	if plain, err := url.PathUnescape("/" + strings.TrimPrefix(s, "/")); err == nil {
		return plain
	}
	return "/"
}
