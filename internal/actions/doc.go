// Package actions knows what a repository uses of other repositories, and
// the lock that pins it: .sallyport/actions.lock. It parses and writes the
// lock, finds what workflows and actions use, transitively, and says of each
// reference whether it may be used.
//
// It fetches nothing itself (sallyport.Actions does) and judges no workflow
// (package workflow compiles them). The engine asks it at plan time; cli uses it
// to make the lock in a work tree.
package actions
