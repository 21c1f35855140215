// Package sallyporttest holds the conformance suites of Sallyport's seams and
// the servers that tests start: who writes a new implementation of a seam runs
// its suite. Tests import it, the product does not.
package sallyporttest
