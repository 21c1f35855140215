package sqlstore

import "github.com/sallyport-ci/sallyport"

const (
	verdictColumns = "id, project, run, gate, environment, subject, artifact, decision, reasons, policy_digest, input_digest, at"
	// The policy and the input are large and in the last columns: lists do not read them.
	verdictWhole = verdictColumns + ", policy, input"
)

const (
	verdictInsert    = "INSERT INTO verdicts (" + verdictWhole + ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING"
	verdictGet       = "SELECT " + verdictWhole + " FROM verdicts WHERE id = $1"
	verdictList      = "SELECT " + verdictColumns + " FROM verdicts WHERE project = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
	verdictBySubject = "SELECT " + verdictColumns + " FROM verdicts WHERE project = $1 AND subject = $2 ORDER BY at, id"
)

func verdictFields(v *sallyport.Verdict) []any {
	return []any{&v.ID, &v.Project, &v.Run, &v.Gate, &v.Environment, &v.Subject, &v.Artifact, &v.Decision, fromJSON{&v.Reasons},
		&v.PolicyDigest, &v.InputDigest, stamp{&v.At}}
}

func scanVerdict(r scanner) (v sallyport.Verdict, err error) {
	err = r.Scan(verdictFields(&v)...)
	return v, err
}

func scanWholeVerdict(r scanner) (v sallyport.Verdict, err error) {
	err = r.Scan(append(verdictFields(&v), &v.Policy, &v.Input)...)
	return v, err
}

func (t verdicts) Insert(v sallyport.Verdict) error {
	return t.insert("verdict", verdictInsert, v.ID, v.Project, v.Run, v.Gate, v.Environment, v.Subject, v.Artifact, v.Decision, asJSON(v.Reasons),
		v.PolicyDigest, v.InputDigest, micros(v.At), blob(v.Policy), blob(v.Input))
}

func (t verdicts) Get(id sallyport.VerdictID) (sallyport.Verdict, error) {
	return one(t.tx, "verdict", scanWholeVerdict, verdictGet, id)
}

func (t verdicts) List(p sallyport.ProjectID, pg sallyport.Page) ([]sallyport.Verdict, error) {
	before, limit := page(pg)
	return many(t.tx, scanVerdict, verdictList, p, before, limit)
}

func (t verdicts) BySubject(p sallyport.ProjectID, d sallyport.Digest) ([]sallyport.Verdict, error) {
	return many(t.tx, scanVerdict, verdictBySubject, p, d)
}
