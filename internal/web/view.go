package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

//go:embed templates
var templateFS embed.FS

// fragmentHeader marks a request of the module for parts of a page that it has
// open already; the page may leave out what the module keeps up to date by itself.
const fragmentHeader = "Sallyport-Fragment"

// view is a page: what the layout needs, and the body for the page's own template.
type view struct {
	Title   string
	Nav     string // the entry of the navigation that is current
	Crumbs  []crumb
	Body    any
	Refresh int    // seconds after which a browser without script loads it again; 0 = never
	Live    string // URL of the event stream that says when the page has changed
	Poll    int    // seconds after which the module looks for changes, where there is no stream
	Wide    bool   // uses the whole width of the window

	// Set by render.
	Note      string
	Principal sallyport.Principal
	RequestID string
	Version   string
	Now       int64 // Unix milliseconds by the server's clock
}

// crumb is one step of the way from the top to the page.
type crumb struct{ Name, URL string }

// notes are the words that a page shows after a redirect. The URL names one
// of them only, so that nobody can put words of his own on a page.
var notes = map[string]string{
	"cancelled":       "Cancelling. Steps that must always run still do.",
	"dispatched":      "Started.",
	"created":         "Project created. Push to it as shown below.",
	"deploying":       "Deployment started.",
	"rollback":        "Rollback started as a new deployment.",
	"secret-set":      "Secret set. Jobs that start from now on are lent it.",
	"secret-rotating": "The secret is being rotated. Jobs that run keep the old value until they end.",
	"secret-deleted":  "Secret deleted. Jobs that start from now on do not get it.",
	"cache-deleted":   "Cache deleted. The next run that wants it starts without.",
	"voted":           "Your word is recorded.",
	"activated":       "Access is active from now on.",
	"withdrawn":       "Request withdrawn.",
	"grant-revoked":   "Grant revoked. What was handed out under it is taken back.",
	"lifted":          "Lifted. What was cancelled, burnt or revoked does not come back.",
	"revoked":         "Token revoked. It stopped working at once.",
}

// parseViews makes one template set for each page: the layout, the parts and the page.
func (s *server) parseViews() (map[string]*template.Template, error) {
	shared, err := template.New("").Funcs(s.funcs()).ParseFS(templateFS, "templates/layout.html", "templates/part_*.html")
	if err != nil {
		return nil, fmt.Errorf("parse layout: %w", err)
	}
	names, err := fs.Glob(templateFS, "templates/*.html")
	if err != nil {
		return nil, err
	}
	views := map[string]*template.Template{}
	for _, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "layout" || strings.HasPrefix(name, "part_") {
			continue
		}
		t := template.Must(shared.Clone())
		if _, err := t.ParseFS(templateFS, file); err != nil {
			return nil, fmt.Errorf("parse page: %w", err)
		}
		views[name] = t
	}
	return views, nil
}

func (s *server) render(w http.ResponseWriter, r *http.Request, name string, v view) error {
	return s.renderStatus(w, r, http.StatusOK, name, v)
}

// renderStatus writes the page, or nothing at all when its template fails.
func (s *server) renderStatus(w http.ResponseWriter, r *http.Request, status int, name string, v view) error {
	v.Principal = sallyport.PrincipalFrom(r.Context())
	v.RequestID = requestID(r.Context())
	v.Version = s.version
	v.Now = s.now().UnixMilli()
	if r.Method == http.MethodGet {
		v.Note = notes[r.URL.Query().Get("note")]
	}
	var b bytes.Buffer
	if err := s.views[name].ExecuteTemplate(&b, "layout", v); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Del("Content-Disposition") // of a download that failed before its first byte
	w.Header().Del("Content-Length")
	w.WriteHeader(status)
	_, _ = b.WriteTo(w)
	return nil
}

// see answers a form with a redirect to a page that says what was done.
func see(w http.ResponseWriter, r *http.Request, to, note string) error {
	if note != "" {
		to += "?note=" + note
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// funcs are the words that templates may use beside html/template's own.
func (s *server) funcs() template.FuncMap {
	return template.FuncMap{
		"static":       s.static.url,
		"icon":         icon,
		"badge":        badgeOf,
		"tone":         toneOf,
		"ago":          func(t time.Time) stamp { return s.stamp(t) },
		"took":         func(from, to time.Time) span { return s.span(from, to) },
		"bytes":        formatBytes,
		"short":        shortCommit,
		"shortref":     shortRef,
		"predicate":    predicateName,
		"plural":       plural,
		"dur":          formatDuration,
		"list":         func(items ...any) []any { return items },
		"shell":        shell,
		"sgr":          ansiSegments,
		"decisiontone": decisionTone,
		"doorreason":   doorReason,
	}
}
