package workflow

// All that this package reads is foreign. Each bound stands next to its reason;
// where GitHub publishes a limit, ours is the same.
const (
	// maxFileBytes bounds a workflow or action file: the largest of well-known
	// repositories is under 100 kB.
	maxFileBytes = 1 << 20
	// maxYAMLDepth bounds nesting; a deep matrix needs about ten.
	maxYAMLDepth = 50
	// maxYAMLNodes bounds the nodes of a file after its aliases are expanded, so
	// that a few lines of aliases to aliases cannot fill the memory.
	maxYAMLNodes = 100_000
	// maxYAMLText bounds the text of a file after its aliases are expanded: each
	// script is parsed, and one may stand for many.
	maxYAMLText = 4 << 20
	// maxDiagnostics bounds the errors, and the warnings, that one file may make us say.
	maxDiagnostics = 100
	// maxMessageBytes bounds one of them: long names are repeated in part only.
	maxMessageBytes = 1500

	// maxJobs and maxSteps bound a workflow; GitHub's own limits are of this order.
	maxJobs  = 256
	maxSteps = 1000
	// maxCallDepth is GitHub's limit of workflows that call each other, the outermost
	// included; maxCalls that of distinct workflows that one may call in all.
	maxCallDepth = 10
	maxCalls     = 50
	// maxPlanJobs bounds the jobs of a plan: calls within calls multiply.
	maxPlanJobs = 1000
	// maxCells is GitHub's limit of jobs a matrix may generate per run.
	maxCells = 256
	// maxMatrixProduct bounds the combinations before some are excluded.
	maxMatrixProduct = 10_000
	// maxMatrixValues bounds the values of all vectors together, and
	// maxMatrixBytes the encoding of the cells, which a plan carries.
	maxMatrixValues = 4096
	maxMatrixBytes  = 4 << 20

	// maxActionDepth is GitHub's limit of composite actions within each other;
	// maxActions bounds the distinct actions of a plan.
	maxActionDepth = 10
	maxActions     = 200
	// maxInputs is GitHub's limit of workflow_dispatch inputs.
	maxInputs = 25
	// maxInputBytes is GitHub's limit of the inputs' payload.
	maxInputBytes = 65_535

	// maxExprLength, maxExprDepth and maxFormatArgs are GitHub's limits of an expression.
	maxExprLength = 21_000
	maxExprDepth  = 50
	maxArgs       = 255
	// maxEvalSteps and maxEvalBytes bound the work and the memory of one
	// evaluation: filters and format() can multiply what they are given.
	maxEvalSteps = 1_000_000
	maxEvalBytes = 10 << 20
	// maxContexts bounds the contexts of a scope; GitHub has twelve.
	maxContexts = 100
	// maxJSONDepth bounds fromJSON and the contexts handed in.
	maxJSONDepth = 100
	// maxJSONValues bounds the values of one JSON text.
	maxJSONValues = 500_000

	// maxEnvFileBytes and maxEnvFileVars bound a GITHUB_ENV or GITHUB_OUTPUT file;
	// GitHub keeps outputs of a job under 1 MiB.
	maxEnvFileBytes = 1 << 20
	maxEnvFileVars  = 10_000
	// maxCommandBytes bounds one workflow command line.
	maxCommandBytes = 1 << 20

	// maxPatterns and maxPatternBytes bound the filters of a trigger.
	maxPatterns     = 1000
	maxPatternBytes = 4096
	// maxMatchSteps bounds the work of matching one pattern against one name.
	maxMatchSteps = 1 << 20
)
