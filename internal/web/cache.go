package web

import (
	"net/http"

	"github.com/sallyport-ci/sallyport"
)

type cachesView struct {
	Project sallyport.Project
	Caches  []sallyport.CacheEntry
	Bytes   int64  // of those shown
	Older   string // URL of the next page, "" at the end
}

func (s *server) cachesPage(w http.ResponseWriter, r *http.Request) error {
	p, err := s.Projects.Project(r.Context(), r.PathValue("project"))
	if err != nil {
		return err
	}
	q := r.URL.Query()
	v := cachesView{Project: p}
	if v.Caches, err = s.Caches.Caches(r.Context(), p.ID, sallyport.Page{Before: q.Get("before"), Limit: listPage}); err != nil {
		return err
	}
	for _, c := range v.Caches {
		v.Bytes += c.Size
	}
	if len(v.Caches) == listPage {
		v.Older = older(r.URL.Path, q, string(v.Caches[len(v.Caches)-1].ID))
	}
	return s.render(w, r, "caches", view{Title: "Caches of " + p.Name, Nav: "projects", Body: v, Crumbs: []crumb{{"Projects", "/projects"}, {p.Name, "/projects/" + p.Name}}})
}

func (s *server) deleteCache(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.Caches.DeleteCache(r.Context(), sallyport.CacheID(r.PathValue("cache"))); err != nil {
		return err
	}
	return see(w, r, "/projects/"+r.PathValue("project")+"/caches", "cache-deleted")
}

// cacheUse is what a job did with an entry, in words.
type cacheUse struct {
	sallyport.CacheUse
	Job string // name
}

// cacheUses names the jobs. A run that may save nothing says so once.
func cacheUses(uses []sallyport.CacheUse, jobs []sallyport.Job) []cacheUse {
	names := map[sallyport.JobID]string{}
	for _, j := range jobs {
		names[j.ID] = j.Name
	}
	var out []cacheUse
	for _, u := range uses {
		out = append(out, cacheUse{u, names[u.Job]})
	}
	return out
}

// Tone is that of the outcome.
func (u cacheUse) Tone() string {
	switch u.Outcome {
	case sallyport.CacheRestored:
		return "ok"
	case sallyport.CacheAltered:
		return "bad"
	default:
		return "warn"
	}
}

// Says tells the outcome.
func (u cacheUse) Says() string {
	switch u.Outcome {
	case sallyport.CacheRestored:
		return "restored"
	case sallyport.CacheRefused:
		return "refused: a run of a lower tier saved it"
	case sallyport.CacheAltered:
		return "refused: it is not what was signed"
	case sallyport.CacheReadOnly:
		return "not saved: this run only reads caches"
	default:
		return string(u.Outcome)
	}
}
