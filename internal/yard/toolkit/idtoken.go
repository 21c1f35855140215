package toolkit

import (
	sallyport "github.com/sallyport-ci/sallyport"
)

// MayHaveIDToken tells whether the job's permissions have id-token: write.
func MayHaveIDToken(l *sallyport.Lease) bool {
	if l.Plan == nil {
		return false
	}
	permissions := l.Plan.Permissions
	if job := l.Plan.Job(l.Job.Key); job != nil && job.Permissions != nil {
		permissions = job.Permissions
	}
	return permissions["id-token"] == "write"
}
