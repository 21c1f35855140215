package firewall_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport/internal/yard/firewall"
)

const simpleJSON = "application/vnd.pypi.simple.v1+json"

// pyIndex serves one project in both forms.
type pyIndex struct {
	json  bool
	files []pyFile
}

type pyFile struct {
	name   string
	body   []byte
	at     time.Time
	yanked string
	hash   string
	meta   []byte
}

func (p *pyIndex) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Host == "files.py.test" {
		for _, f := range p.files {
			if r.URL.Path == "/packages/"+f.name {
				w.Header().Set("Last-Modified", f.at.Format(http.TimeFormat))
				w.Write(f.body)
				return
			}
			if r.URL.Path == "/packages/"+f.name+".metadata" {
				w.Write(f.meta)
				return
			}
		}
		http.NotFound(w, r)
		return
	}
	if r.URL.Path != "/simple/my-project/" {
		http.NotFound(w, r)
		return
	}
	hash := func(f pyFile) string {
		if f.hash != "" {
			return f.hash
		}
		return sha256Hex(f.body)
	}
	if p.json && strings.Contains(r.Header.Get("Accept"), simpleJSON) {
		var files []any
		for _, f := range p.files {
			one := map[string]any{"filename": f.name, "url": "http://files.py.test/packages/" + f.name, "hashes": map[string]string{"sha256": hash(f)}, "upload-time": f.at.Format(time.RFC3339Nano), "size": len(f.body)}
			if f.yanked != "" {
				one["yanked"] = f.yanked
			}
			if f.meta != nil {
				one["core-metadata"] = map[string]string{"sha256": sha256Hex(f.meta)}
			}
			files = append(files, one)
		}
		w.Header().Set("Content-Type", simpleJSON)
		json.NewEncoder(w).Encode(map[string]any{"meta": map[string]string{"api-version": "1.1"}, "name": "my-project", "files": files})
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintln(w, "<!DOCTYPE html><html><body><!-- <a href=\"http://evil.test/my_project-9.0.tar.gz\">my_project-9.0.tar.gz</a> -->")
	for _, f := range p.files {
		yanked := ""
		if f.yanked != "" {
			yanked = ` data-yanked="` + f.yanked + `"`
		}
		fmt.Fprintf(w, "<A HREF='http://files.py.test/packages/%s#sha256=%s' data-requires-python='&gt;=3.8'%s>%s</a>\n", f.name, hash(f), yanked, f.name)
	}
}

func withPyPI(t *testing.T, json bool) (*world, *pyIndex) {
	w := newWorld(t)
	p := &pyIndex{json: json, files: []pyFile{
		{name: "my_project-1.0-py3-none-any.whl", body: []byte("wheel 1.0"), at: old, meta: []byte("Name: my-project")},
		{name: "my-project-1.1.tar.gz", body: []byte("sdist 1.1"), at: old, yanked: "broken build"},
		{name: "my_project-1.2-py3-none-any.whl", body: []byte("wheel 1.2"), at: fresh},
		{name: "my_project-1.3.tar.gz", body: []byte("sdist 1.3"), at: old, hash: sha256Hex([]byte("another"))},
		{name: "my_project-1.4.tar.gz", body: []byte("sdist 1.4"), at: old},
	}}
	w.hosts["py.test"], w.hosts["files.py.test"] = p, p
	w.add(firewall.KindPyPI, "http://py.test/simple")
	return w, p
}

func TestPyPI(t *testing.T) {
	t.Parallel()
	for _, form := range []bool{true, false} {
		w, p := withPyPI(t, form)
		j := w.open("PyPI my-project 1.4")
		page := get(j, "http://py.test/simple/My.Project/", "Accept", simpleJSON+", text/html;q=0.01")
		var doc struct {
			Files []struct {
				Filename, URL string
				Hashes        map[string]string
				Yanked        any
				Python        string         `json:"requires-python"`
				Core          map[string]any `json:"core-metadata"`
			}
		}
		if err := json.Unmarshal(page.Body.Bytes(), &doc); err != nil || page.Header().Get("Content-Type") != simpleJSON {
			t.Fatalf("got %d %s: %v", page.Code, page.Body, err)
		}
		want := 3 // without 1.2, which is young, and 1.4, which is malicious
		if !form {
			want = 4 // a page that says no dates
		}
		if len(doc.Files) != want || doc.Files[0].URL != "http://files.py.test/packages/my_project-1.0-py3-none-any.whl" || doc.Files[0].Hashes["sha256"] != sha256Hex(p.files[0].body) {
			t.Errorf("json %v: the files are %+v", form, doc.Files)
		}
		if doc.Files[1].Yanked != "broken build" || form && doc.Files[0].Core["sha256"] != sha256Hex(p.files[0].meta) || !form && doc.Files[0].Python != ">=3.8" {
			t.Errorf("json %v: the files are %+v", form, doc.Files)
		}
		text := get(j, "http://py.test/simple/my-project/", "Accept", "text/html").Body.String()
		if !strings.Contains(text, `<a href="http://files.py.test/packages/my_project-1.0-py3-none-any.whl#sha256=`+sha256Hex(p.files[0].body)+`"`) || !strings.Contains(text, `data-yanked="broken build"`) {
			t.Errorf("json %v: the page is %s", form, text)
		}
		base := "http://files.py.test/packages/"
		wantBody(t, get(j, base+p.files[0].name), p.files[0].body)
		wantRefused(t, get(j, base+p.files[1].name), "withdrawn: broken build")
		wantRefused(t, get(j, base+p.files[2].name), "published 5 hours ago") // without dates on the page, by the file's own
		wantRefused(t, get(j, base+p.files[3].name), "sha256 checksum is not the one")
		wantRefused(t, get(j, base+p.files[4].name), "malicious")
		wantRefused(t, get(j, base+"other_project-1.0.tar.gz"))
		wantRefused(t, get(j, base+"my_project-9.0.tar.gz"), "does not name this file")
		wantRefused(t, get(j, "http://files.py.test/elsewhere/"+p.files[0].name), "does not name this file")
		if form {
			wantBody(t, get(j, base+p.files[0].name+".metadata"), p.files[0].meta)
		} else {
			wantRefused(t, get(j, base+p.files[0].name+".metadata"))
		}
		wantRefused(t, get(j, "http://py.test/simple/"), "not served")
		if j.Handler("evil.test") != nil {
			t.Error("a comment made a host one of the registry's")
		}
		// A client with a lock file asks the host of files first, in another life of the runner.
		j = w.open("PyPI my-project 1.4")
		wantBody(t, get(j, base+p.files[0].name), p.files[0].body)
	}
}

func TestCargo(t *testing.T) {
	t.Parallel()
	for _, dl := range []string{"http://dl.test/api/v1/crates", "http://dl.test/crates/{crate}/{crate}-{version}.crate", "http://dl.test/{prefix}/{crate}/{version}/{sha256-checksum}"} {
		w := newWorld(t)
		bodies := map[string][]byte{"1.0.0": []byte("crate 1.0.0"), "1.1.0": []byte("crate 1.1.0"), "1.2.0": []byte("crate 1.2.0"), "1.3.0": []byte("crate 1.3.0")}
		where := func(number string) string {
			path := strings.TrimPrefix(dl, "http://dl.test")
			if !strings.Contains(dl, "{") {
				path += "/{crate}/{version}/download"
			}
			return strings.NewReplacer("{crate}", "my-crate", "{version}", number, "{prefix}", "my/-c", "{sha256-checksum}", sha256Hex(bodies[number])).Replace(path)
		}
		w.hosts["index.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/config.json":
				fmt.Fprintf(rw, `{"dl":%q,"api":"http://api.test"}`, dl)
			case "/my/-c/my-crate":
				for _, l := range []struct{ number, at, yanked string }{{"1.0.0", old.Format(time.RFC3339), "false"}, {"1.1.0", old.Format(time.RFC3339), "true"}, {"1.2.0", fresh.Format(time.RFC3339), "false"}, {"1.3.0", "", "false"}} {
					fmt.Fprintf(rw, `{"name":"my-crate","vers":%q,"deps":[],"cksum":%q,"features":{},"yanked":%s,"pubtime":%q}`+"\n", l.number, sha256Hex(bodies[l.number]), l.yanked, l.at)
				}
			default:
				http.NotFound(rw, r)
			}
		})
		w.hosts["dl.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			for number, body := range bodies {
				if r.URL.Path == where(number) {
					rw.Write(body)
				}
			}
		})
		w.add(firewall.KindCargo, "http://index.test")
		j := w.open()
		if got := get(j, "http://index.test/config.json"); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "dl.test") {
			t.Fatalf("got %d %s", got.Code, got.Body)
		}
		index := get(j, "http://index.test/my/-c/my-crate").Body.String()
		if strings.Contains(index, `"1.2.0"`) || strings.Count(index, "\n") != 3 || !strings.Contains(index, `"yanked":true`) {
			t.Errorf("the index is %s", index)
		}
		wantBody(t, get(j, "http://dl.test"+where("1.0.0")), bodies["1.0.0"])
		wantRefused(t, get(j, "http://dl.test"+where("1.1.0")), "yanked")
		wantRefused(t, get(j, "http://dl.test"+where("1.2.0")), "published 5 hours ago")
		wantRefused(t, get(j, "http://dl.test"+where("1.3.0")), "does not say when it was published")
		first := "http://dl.test" + where("1.0.0")
		bodies["1.0.0"] = []byte("changed")
		wantBody(t, get(j, first), []byte("crate 1.0.0")) // what was verified stays
		for _, path := range []string{"/", "/my/-c/other", "/xx/yy/my-crate", "/api/v1/crates/new"} {
			wantRefused(t, get(j, "http://index.test"+path))
		}
	}
}
