package sqlstore

import "github.com/sallyport-ci/sallyport"

const environmentColumns = "project, name, url, live, previous, at"

const (
	environmentPut = "INSERT INTO environments (" + environmentColumns + ") VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (project, name)" +
		" DO UPDATE SET url = excluded.url, live = excluded.live, previous = excluded.previous, at = excluded.at"
	environmentGet  = "SELECT " + environmentColumns + " FROM environments WHERE project = $1 AND name = $2"
	environmentList = "SELECT " + environmentColumns + " FROM environments WHERE project = $1 ORDER BY name"
)

func scanEnvironment(r scanner) (e sallyport.Environment, err error) {
	err = r.Scan(&e.Project, &e.Name, &e.URL, &e.Live, &e.Previous, stamp{&e.At})
	return e, err
}

func (t environments) Put(e sallyport.Environment) error {
	_, err := t.exec(environmentPut, e.Project, e.Name, e.URL, e.Live, e.Previous, micros(e.At))
	return err
}

func (t environments) Get(p sallyport.ProjectID, name string) (sallyport.Environment, error) {
	return one(t.tx, "environment", scanEnvironment, environmentGet, p, name)
}

func (t environments) List(p sallyport.ProjectID) ([]sallyport.Environment, error) {
	return many(t.tx, scanEnvironment, environmentList, p)
}
