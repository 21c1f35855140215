// Package workflow is the language of GitHub Actions: it turns a workflow
// file into a typed, ordered syntax tree with a position on every node,
// compiles that tree for one event at one commit into a serialisable
// [sallyport.Plan], and evaluates the plan's expressions for those who
// interpret it.
//
// It is pure thought: it reads no file, opens no connection and looks at no
// clock. Whoever compiles hands in a function that reads files of the pinned
// commit. All it is given is foreign, so everything is bounded (limits.go).
//
// It is not an engine: it does not know runs, runners or secrets' values. The
// engine calls [Parse], [File.Matches], [Compile] and [Expand]; the runner
// evaluates steps with a [Scope] and reads what steps say with [ParseCommand]
// and [ParseEnvFile].
//
// [Lint] looks for what is dangerous or mistaken in a file, with rules that each
// have a file of their own (rule_*.go).
//
// Every value carries a taint mark that says whether any part of it was
// written by someone who need not be trusted (a title, a branch's name, a
// commit message).
package workflow
