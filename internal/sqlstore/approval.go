package sqlstore

import "github.com/sallyport-ci/sallyport"

const (
	requestInsert = "INSERT INTO requests (id, number, kind, project, environment, subject, created_at, body) SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5, CAST($6 AS BIGINT), $7 FROM requests WHERE true ON CONFLICT DO NOTHING"
	requestGet    = "SELECT body FROM requests WHERE id = $1"
	requestList   = "SELECT body FROM requests"
	requestNewest = " ORDER BY id DESC LIMIT $?"
	requestOpen   = "SELECT body FROM requests WHERE NOT EXISTS (SELECT 1 FROM access_events e WHERE e.subject = 'request/' || requests.id AND e.kind = 'ended') ORDER BY number"
	requestLast   = "SELECT body FROM requests WHERE project = $1 AND environment = $2 AND kind = $3 AND EXISTS (SELECT 1 FROM access_events e WHERE e.subject = 'request/' || requests.id AND e.kind = 'ended' AND e.word = 'done') ORDER BY number DESC LIMIT 1"
	requestAbout  = "SELECT body FROM requests WHERE subject = $1 ORDER BY number DESC"

	grantInsert = "INSERT INTO grants (id, request, ends_at, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
	grantGet    = "SELECT body FROM grants WHERE id = $1"
	grantList   = "SELECT body FROM grants WHERE id < $1 ORDER BY id DESC LIMIT $2"
	grantOpen   = "SELECT body FROM grants WHERE NOT EXISTS (SELECT 1 FROM access_events e WHERE e.subject = 'grant/' || grants.id AND e.kind = 'closed') ORDER BY id"

	stopInsert   = "INSERT INTO stops (id, at, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
	stopStanding = "SELECT body FROM stops WHERE NOT EXISTS (SELECT 1 FROM access_events e WHERE e.subject = 'stop/' || stops.id AND e.kind = 'ended') ORDER BY id DESC"

	eventInsert = "INSERT INTO access_events (number, subject, kind, key, word, at, body) SELECT COALESCE(MAX(number), 0) + 1, $1, $2, $3, $4, CAST($5 AS BIGINT), $6 FROM access_events WHERE true ON CONFLICT DO NOTHING"
	eventsOf    = "SELECT body FROM access_events WHERE subject = $1 ORDER BY number"
)

// scanBody reads a noun that is kept whole.
func scanBody[T any](r scanner) (v T, err error) {
	err = r.Scan(fromJSON{&v})
	return v, err
}

func (t requests) Insert(r sallyport.AccessRequest) error {
	return t.insert("request", requestInsert, r.ID, string(r.Kind), r.Project, r.Environment, r.Subject, micros(r.CreatedAt), asJSON(r))
}

func (t requests) Get(id sallyport.RequestID) (sallyport.AccessRequest, error) {
	return one(t.tx, "request", scanBody[sallyport.AccessRequest], requestGet, id)
}

func (t requests) List(p sallyport.ProjectID, pg sallyport.Page) ([]sallyport.AccessRequest, error) {
	before, limit := page(pg)
	var w filter
	if p != "" {
		w.and("project = $?", p)
	}
	w.and("id < $?", before)
	query, args := w.query(requestList, requestNewest, limit)
	return many(t.tx, scanBody[sallyport.AccessRequest], query, args...)
}

func (t requests) Open() ([]sallyport.AccessRequest, error) {
	return many(t.tx, scanBody[sallyport.AccessRequest], requestOpen)
}

func (t requests) About(subject string) ([]sallyport.AccessRequest, error) {
	return many(t.tx, scanBody[sallyport.AccessRequest], requestAbout, subject)
}

func (t requests) Last(p sallyport.ProjectID, environment string, kind sallyport.RequestKind) (sallyport.AccessRequest, error) {
	return one(t.tx, "request", scanBody[sallyport.AccessRequest], requestLast, p, environment, string(kind))
}

func (t grants) Insert(g sallyport.Grant) error {
	return t.insert("grant", grantInsert, g.ID, g.Request, micros(g.EndsAt), asJSON(g))
}

func (t grants) Get(id sallyport.GrantID) (sallyport.Grant, error) {
	return one(t.tx, "grant", scanBody[sallyport.Grant], grantGet, id)
}

func (t grants) List(pg sallyport.Page) ([]sallyport.Grant, error) {
	before, limit := page(pg)
	return many(t.tx, scanBody[sallyport.Grant], grantList, before, limit)
}

func (t grants) Open() ([]sallyport.Grant, error) {
	return many(t.tx, scanBody[sallyport.Grant], grantOpen)
}

func (t stops) Insert(s sallyport.Stop) error {
	return t.insert("stop", stopInsert, s.ID, micros(s.At), asJSON(s))
}

func (t stops) Standing() ([]sallyport.Stop, error) {
	return many(t.tx, scanBody[sallyport.Stop], stopStanding)
}

func (t accessEvents) Append(e sallyport.AccessEvent) error {
	return t.insert("event", eventInsert, e.Subject, string(e.Kind), e.Key, e.Word, micros(e.At), asJSON(e))
}

func (t accessEvents) Of(subject string) ([]sallyport.AccessEvent, error) {
	return many(t.tx, scanBody[sallyport.AccessEvent], eventsOf, subject)
}
