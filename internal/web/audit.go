package web

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

type auditView struct {
	Records []sallyport.AuditRecord
	Filter  sallyport.AuditFilter
	Older   string
	Health  *sallyport.InstanceHealth // nil when the asker may not know
	Report  *sallyport.AuditReport    // nil until asked for
}

// ObjectURL is the page of a record's object, "" where there is none.
func (auditView) ObjectURL(object string) string {
	noun, id, ok := strings.Cut(object, "/")
	if !ok {
		return ""
	}
	pages := map[string]string{"run": "/runs/", "project": "/projects/", "artifact": "/artifacts/",
		"deployment": "/deployments/", "verdict": "/verdicts/"}
	if pages[noun] == "" || strings.Contains(id, "/") {
		return ""
	}
	return pages[noun] + url.PathEscape(id)
}

// ObjectText is an object with the constant front of its id left out, for the table.
func (auditView) ObjectText(object string) string {
	noun, id, _ := strings.Cut(object, "/")
	if len(id) != 36 || strings.Count(id, "-") != 4 { // a UUID
		return object
	}
	return noun + "/…" + id[24:]
}

func (s *server) auditPage(w http.ResponseWriter, r *http.Request) error {
	return s.showAudit(w, r, nil)
}

// verifyAudit recomputes the whole trail. It changes nothing but takes time,
// so it is asked for by a form.
func (s *server) verifyAudit(w http.ResponseWriter, r *http.Request) error {
	report, err := s.Audit.VerifyAudit(r.Context())
	if err != nil {
		return err
	}
	return s.showAudit(w, r, &report)
}

func (s *server) showAudit(w http.ResponseWriter, r *http.Request, report *sallyport.AuditReport) error {
	before, err := queryInt(r, "before", 0)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	v := auditView{Report: report, Filter: sallyport.AuditFilter{Actor: q.Get("actor"), Action: q.Get("action"),
		Object: q.Get("object"), Before: before, Limit: listPage}}
	if v.Records, err = s.Audit.Records(r.Context(), v.Filter); err != nil {
		return err
	}
	if len(v.Records) == listPage {
		v.Older = older("/audit", q, strconv.FormatInt(v.Records[listPage-1].Seq, 10))
	}
	v.Health, _ = s.alarms(r.Context())
	return s.render(w, r, "audit", view{Title: "Audit trail", Nav: "audit", Body: v})
}
