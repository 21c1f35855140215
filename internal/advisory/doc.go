// Package advisory reads dumps of advisories in the OSV format and answers one
// question: is this version of this package known to be malicious? It judges no
// weaknesses: a package with a hole in it is its users' business, one that was
// made to do harm is nobody's.
//
// The package firewall of the yard asks it.
package advisory
