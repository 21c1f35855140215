package workflow

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Severities of a diagnostic.
const (
	severityError   = "error"
	severityWarning = "warning"
)

// diagnostics collects what is wrong with a file, within bounds. Errors and
// warnings are bounded apart, so that warnings cannot crowd out an error.
type diagnostics struct {
	list     []sallyport.Diagnostic
	errors   int
	warnings int
}

func (d *diagnostics) add(file, severity string, pos sallyport.Pos, format string, args ...any) {
	count := &d.warnings
	if severity == severityError {
		count = &d.errors
	}
	if *count++; *count > maxDiagnostics {
		return
	}
	message := printable(fmt.Sprintf(format, args...))
	if *count == maxDiagnostics {
		message = "there are more " + severity + "s; mend these first"
	}
	d.list = append(d.list, sallyport.Diagnostic{File: file, Pos: pos, Severity: severity, Message: message})
}

// printable cuts a message to maxMessageBytes and replaces control characters,
// as messages repeat what files say and end up in terminals.
func printable(message string) string {
	if len(message) > maxMessageBytes {
		cut := maxMessageBytes
		for !utf8.RuneStart(message[cut]) {
			cut--
		}
		message = message[:cut] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, message)
}

// hasErrors reports whether one of the diagnostics is an error.
func hasErrors(diags []sallyport.Diagnostic) bool {
	for _, d := range diags {
		if d.Severity == severityError {
			return true
		}
	}
	return false
}
