// Package toolkit serves what the toolkits of actions (@actions/artifact,
// @actions/cache, the OIDC client of @actions/core) expect of GitHub's runtime: one
// HTTP server for each job, which the job finds on its own loopback. The runner makes
// it, and serves it on the socket that the sandbox forwards to.
//
// It holds no key and decides nothing: it translates the toolkits' protocols into
// calls of sallyport.Yard under the job's lease. All that it reads is the job's word
// and is bounded here; what it answers, every process of the job may see.
package toolkit
