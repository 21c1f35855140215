package toolkit

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"

	sallyport "github.com/sallyport-ci/sallyport"
)

// The toolkits send contents with Azure's client for block blobs (version 2021 and
// later of its REST protocol): Put Blob, or Put Block many times and Put Block List.

const (
	// maxBlockList has room for maxBlocks ids of 64 bytes, in base64 and tags.
	maxBlockList = 8 << 20
	// maxBlockID is Azure's bound of an id before it is encoded.
	maxBlockID = 64
)

// putBlob answers PUT /blobs/uploads/{id}.
func (s *Service) putBlob(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	u, err := s.uploads.find(r.PathValue("id"), query.Get("sig"))
	if err == nil {
		switch comp := query.Get("comp"); {
		case comp == "block":
			err = u.putBlock(r, query.Get("blockid"))
		case comp == "blocklist":
			err = u.putBlockList(w, r)
		case comp == "" && r.Header.Get("x-ms-blob-type") == "BlockBlob":
			err = u.putWhole(r)
		default:
			err = sallyport.Errorf(sallyport.CodeInvalid, "only block blobs are taken: Put Blob, Put Block and Put Block List")
		}
	}
	if err != nil {
		s.refused(err)
		blobError(w, err)
		return
	}
	h := w.Header()
	h.Set("ETag", `"`+random()[:16]+`"`)
	h.Set("Last-Modified", s.cfg.Clock().UTC().Format(http.TimeFormat))
	h.Set("x-ms-request-server-encrypted", "true")
	h.Set("x-ms-request-id", random()[:32])
	h.Set("x-ms-version", "2021-12-02")
	w.WriteHeader(http.StatusCreated)
}

func (u *upload) putBlock(r *http.Request, id string) error {
	if err := checkBlockID(id); err != nil {
		return err
	}
	s, err := u.body(r)
	if err != nil {
		return err
	}
	return u.stage(id, s)
}

func (u *upload) putWhole(r *http.Request) error {
	s, err := u.body(r)
	if err != nil {
		return err
	}
	u.commit(s)
	return nil
}

// body takes the body of a request, whose length must be known.
func (u *upload) body(r *http.Request) (segment, error) {
	if r.ContentLength < 0 {
		return segment{}, sallyport.Errorf(sallyport.CodeInvalid, "the header Content-Length is missing")
	}
	var sum hash.Hash
	body := io.Reader(r.Body)
	want := r.Header.Get("Content-MD5")
	if want != "" {
		sum = md5.New() // the client's choice, against accidents
		body = io.TeeReader(body, sum)
	}
	s, err := u.write(body, r.ContentLength)
	if err == nil && sum != nil && base64.StdEncoding.EncodeToString(sum.Sum(nil)) != want {
		err = sallyport.Errorf(sallyport.CodeInvalid, "the content does not match the header Content-MD5")
	}
	return s, err
}

func (u *upload) putBlockList(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBlockList))
	if err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "the list of blocks has more than %d bytes or was cut off", maxBlockList)
	}
	ids, err := parseBlockList(body)
	if err != nil {
		return err
	}
	return u.commitBlocks(ids)
}

func checkBlockID(id string) error {
	if b, err := base64.StdEncoding.DecodeString(id); err != nil || len(b) == 0 || len(b) > maxBlockID {
		return sallyport.Errorf(sallyport.CodeInvalid, "the block id %.100q is not the base64 of 1 to %d bytes", id, maxBlockID)
	}
	return nil
}

// parseBlockList reads the body of Put Block List: <BlockList> with the ids in
// <Latest>, <Committed> or <Uncommitted>, in the order of the content.
func parseBlockList(body []byte) ([]string, error) {
	invalid := func(format string, args ...any) ([]string, error) {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the list of blocks is not valid: "+format, args...)
	}
	var ids []string
	d := xml.NewDecoder(bytes.NewReader(body))
	depth, ended := 0, false
	var text []byte
	for {
		t, err := d.RawToken() // no entities, no stack: the two levels are counted here
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return invalid("%v", err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			name := t.Name.Local
			switch {
			case depth == 0 && !ended && name == "BlockList":
			case depth == 1 && (name == "Latest" || name == "Committed" || name == "Uncommitted"):
				text = text[:0]
			default:
				return invalid("element <%.40s> in it", name)
			}
			depth++
		case xml.CharData:
			switch {
			case depth == 2:
				text = append(text, t...)
			case len(bytes.TrimSpace(t)) > 0:
				return invalid("text outside of an id")
			}
		case xml.EndElement:
			switch depth--; depth {
			case 1:
				id := string(bytes.TrimSpace(text))
				if err := checkBlockID(id); err != nil {
					return nil, err
				}
				if len(ids) >= maxBlocks {
					return invalid("it names more than %d blocks", maxBlocks)
				}
				ids = append(ids, id)
			case 0:
				ended = true
			default:
				return invalid("an element ends that did not begin")
			}
		case xml.Directive:
			return invalid("a document type in it")
		}
	}
	if !ended || depth != 0 {
		return invalid("<BlockList> does not end")
	}
	return ids, nil
}

// blobError tells why a request was refused, as Azure does.
func blobError(w http.ResponseWriter, err error) {
	status, code := http.StatusInternalServerError, "InternalError"
	switch sallyport.ErrorCode(err) {
	case sallyport.CodeInvalid, sallyport.CodeDenied, sallyport.CodeConflict:
		status, code = http.StatusBadRequest, "InvalidInput"
	case sallyport.CodeNotFound:
		status, code = http.StatusNotFound, "BlobNotFound"
	case sallyport.CodeUnavailable:
		status, code = http.StatusServiceUnavailable, "ServerBusy"
	}
	message, _ := sallyport.ErrorMessage(err)
	h := w.Header()
	h.Set("Content-Type", "application/xml")
	h.Set("x-ms-error-code", code)
	h.Set("x-ms-request-id", random()[:32])
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.WriteHeader(status)
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(message))
	fmt.Fprintf(w, `<?xml version="1.0" encoding="utf-8"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, b.String())
}
