package sqlstore

import "github.com/sallyport-ci/sallyport"

const statementColumns = "id, project, run, subjects, predicate_type, identity, log_index, bundle_digest, created_at, bundle"

const (
	statementInsert    = "INSERT INTO statements (" + statementColumns + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING"
	subjectInsert      = "INSERT INTO statement_subjects (project, digest, statement) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
	statementGet       = "SELECT " + statementColumns + " FROM statements WHERE id = $1"
	statementByRun     = "SELECT " + statementColumns + " FROM statements WHERE run = $1 ORDER BY created_at, id"
	statementBySubject = "SELECT " + statementColumns + " FROM statements WHERE id IN" +
		" (SELECT statement FROM statement_subjects WHERE statement_subjects.project = $1 AND digest = $2) ORDER BY created_at, id"
)

func scanStatement(r scanner) (s sallyport.Statement, err error) {
	err = r.Scan(&s.ID, &s.Project, &s.Run, fromJSON{&s.Subjects}, &s.PredicateType, &s.Identity, &s.LogIndex, &s.BundleDigest, stamp{&s.CreatedAt}, &s.Bundle)
	return s, err
}

func (t statements) Insert(s sallyport.Statement) error {
	err := t.insert("statement", statementInsert, s.ID, s.Project, s.Run, asJSON(s.Subjects), s.PredicateType, s.Identity, s.LogIndex, s.BundleDigest,
		micros(s.CreatedAt), blob(s.Bundle))
	for _, d := range s.Subjects {
		if err == nil {
			_, err = t.exec(subjectInsert, s.Project, d, s.ID)
		}
	}
	return err
}

func (t statements) Get(id sallyport.StatementID) (sallyport.Statement, error) {
	return one(t.tx, "statement", scanStatement, statementGet, id)
}

func (t statements) BySubject(p sallyport.ProjectID, d sallyport.Digest) ([]sallyport.Statement, error) {
	return many(t.tx, scanStatement, statementBySubject, p, d)
}

func (t statements) ByRun(id sallyport.RunID) ([]sallyport.Statement, error) {
	return many(t.tx, scanStatement, statementByRun, id)
}
