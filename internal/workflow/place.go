package workflow

import (
	"slices"
	"strings"
)

// place is a field that may hold expressions: which contexts and which special
// functions are available there (GitHub's documentation, "Context
// availability"). The table matters for security: it says where secrets can
// get to.
type place struct {
	name      string
	contexts  []string
	status    bool // always(), cancelled(), failure(), success()
	needed    bool // failure() and success() take the ids of jobs
	hashFiles bool
}

// Sets of contexts that many places share.
var (
	ctxWorkflow = []string{"github", "inputs", "vars"}
	ctxNeeds    = []string{"github", "inputs", "vars", "needs"}
	ctxJob      = []string{"github", "inputs", "vars", "needs", "strategy", "matrix"}
	ctxStep     = []string{"github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "job", "runner", "env", "steps"}
	ctxAction   = []string{"github", "inputs", "strategy", "matrix", "steps", "job", "runner", "env"}
)

// Places of a workflow file.
var (
	atRunName     = place{name: "run-name", contexts: ctxWorkflow}
	atConcurrency = place{name: "concurrency", contexts: ctxWorkflow}
	atEnv         = place{name: "env", contexts: []string{"github", "inputs", "vars", "secrets"}}

	atDispatchDefault = place{name: "on.workflow_dispatch.inputs.<id>.default"}

	atCallDefault = place{name: "on.workflow_call.inputs.<id>.default", contexts: ctxWorkflow}
	atCallOutput  = place{name: "on.workflow_call.outputs.<id>.value", contexts: []string{"github", "inputs", "vars", "jobs"}}

	atJobIf             = place{name: "jobs.<id>.if", contexts: ctxNeeds, status: true, needed: true}
	atJobStrategy       = place{name: "jobs.<id>.strategy", contexts: ctxNeeds}
	atJobName           = place{name: "jobs.<id>.name", contexts: ctxJob}
	atJobRunsOn         = place{name: "jobs.<id>.runs-on", contexts: ctxJob}
	atJobTimeout        = place{name: "jobs.<id>.timeout-minutes", contexts: ctxJob}
	atJobContinue       = place{name: "jobs.<id>.continue-on-error", contexts: ctxJob}
	atJobConcurrency    = place{name: "jobs.<id>.concurrency", contexts: ctxJob}
	atJobContainer      = place{name: "jobs.<id>.container", contexts: ctxJob}
	atJobContainerEnv   = place{name: "jobs.<id>.container.env", contexts: ctxStep}
	atJobCredentials    = place{name: "jobs.<id>.container.credentials", contexts: append(slices.Clone(ctxJob), "secrets", "env")}
	atJobSnapshotIf     = place{name: "jobs.<id>.snapshot.if", contexts: ctxJob}
	atJobEnvironment    = place{name: "jobs.<id>.environment", contexts: ctxJob}
	atJobEnvironmentURL = place{name: "jobs.<id>.environment.url", contexts: without(ctxStep, "secrets")}
	atJobEnv            = place{name: "jobs.<id>.env", contexts: append(slices.Clone(ctxJob), "secrets")}
	atJobDefaults       = place{name: "jobs.<id>.defaults.run", contexts: append(slices.Clone(ctxJob), "env")}
	atJobOutputs        = place{name: "jobs.<id>.outputs", contexts: ctxStep}
	atJobWith           = place{name: "jobs.<id>.with", contexts: ctxJob}
	atJobSecrets        = place{name: "jobs.<id>.secrets", contexts: append(slices.Clone(ctxJob), "secrets")}

	atStep   = place{name: "jobs.<id>.steps", contexts: ctxStep, hashFiles: true}
	atStepIf = place{name: "jobs.<id>.steps.if", contexts: without(ctxStep, "secrets"), hashFiles: true, status: true}
)

// Places of an action file.
var (
	atActionDefault = place{name: "inputs.<id>.default", contexts: []string{"github", "strategy", "matrix", "job", "runner"}, hashFiles: true}
	atActionOutput  = place{name: "outputs.<id>.value", contexts: ctxAction}
	atActionStep    = place{name: "runs.steps", contexts: ctxAction, hashFiles: true}
	atActionStepIf  = place{name: "runs.steps.if", contexts: ctxAction, hashFiles: true, status: true}
	atActionArgs    = place{name: "runs.args", contexts: []string{"inputs"}}
	atActionEnv     = place{name: "runs.env", contexts: []string{"inputs"}}
	atActionPreIf   = place{name: "runs.pre-if", contexts: without(ctxAction, "steps"), hashFiles: true, status: true}
	atActionPostIf  = place{name: "runs.post-if", contexts: ctxAction, hashFiles: true, status: true}
)

func without(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}

// check reports the first use of a context or function in n that is not
// available at p.
func (p *place) check(n *node) (bad *exprError) {
	n.walk(func(x *node) {
		switch {
		case bad != nil:
		case x.op == opContext && !slices.Contains(p.contexts, x.name):
			there := strings.Join(p.contexts, ", ")
			if there == "" {
				there = "none"
			}
			bad = exprErrorf(x.pos, "the context %q is not available in %s; there are %s", x.name, p.name, there)
		case x.op == opCall && x.name == "hashfiles" && !p.hashFiles:
			bad = exprErrorf(x.pos, "hashFiles() is not available in %s: it needs the files of the workspace, so only steps can call it", p.name)
		case x.op == opCall && slices.Contains(statusFunctions, x.name) && !p.status:
			bad = exprErrorf(x.pos, "%s() is not available in %s: only an if can call it", x.fn.name, p.name)
		case x.op == opCall && slices.Contains(statusFunctions, x.name) && !p.needed && len(x.args) > 0:
			bad = exprErrorf(x.pos, "%s() takes no argument in %s: only the if of a job can name jobs", x.fn.name, p.name)
		}
	})
	return bad
}

// isContext reports whether there is a context of this name at all.
func isContext(name string) bool { return slices.Contains(contextNames, name) }
