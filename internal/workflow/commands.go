package workflow

import (
	"slices"
	"strings"

	sallyport "github.com/sallyport-ci/sallyport"
)

// Command is a workflow command that a step prints on a line of its own:
// "::name key=value,…::value".
type Command struct {
	Name  string // in lower case
	Props []Var  // in order, unescaped; names as written
	Value string // unescaped
	Line  string // the whole as it was written, without white space before it
}

// Prop returns the property with the given name, without regard to case; ""
// if there is none. Of two the later counts.
func (c Command) Prop(name string) string {
	for _, p := range slices.Backward(c.Props) {
		if strings.EqualFold(p.Name, name) {
			return p.Value
		}
	}
	return ""
}

// legacyCommands are those that may also be written "##[name key=value;…]value".
var legacyCommands = []string{"add-mask", "command", "debug", "endgroup", "error", "group", "notice", "warning"}

// The unescaping of values and properties; the percent sign comes last, so
// that %250A is the text %0A.
var (
	valueEscapes    = []string{"%0D", "\r", "%0A", "\n", "%25", "%"}
	propertyEscapes = []string{"%0D", "\r", "%0A", "\n", "%3A", ":", "%2C", ",", "%25", "%"}
	legacyEscapes   = []string{"%3B", ";", "%0D", "\r", "%0A", "\n", "%5D", "]", "%25", "%"}
)

func unescape(s string, escapes []string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	for i := 0; i < len(escapes); i += 2 {
		s = strings.ReplaceAll(s, escapes[i], escapes[i+1])
	}
	return s
}

// ParseCommand reads a line of a step's output, without its line end, as a
// workflow command; ok is false if it is none. The name need not be one that
// exists: such a line is ordinary output to the caller.
func ParseCommand(line string) (cmd Command, ok bool) {
	if len(line) > maxCommandBytes || len(line) < len("::x::") {
		return Command{}, false
	}
	line = strings.TrimLeft(line, " \t\v\f\r\n\u0085\u00a0")
	if rest, found := strings.CutPrefix(line, "::"); found {
		info, value, found := strings.Cut(rest, "::")
		if !found {
			return Command{}, false
		}
		cmd, ok = newCommand(info, ",", propertyEscapes, unescape(value, valueEscapes))
		cmd.Line = line
		return cmd, ok
	}
	_, rest, found := strings.Cut(line, "##[")
	if !found {
		return Command{}, false
	}
	info, value, found := strings.Cut(rest, "]")
	if !found {
		return Command{}, false
	}
	cmd, ok = newCommand(info, ";", legacyEscapes, unescape(value, legacyEscapes))
	cmd.Line = line
	return cmd, ok && slices.Contains(legacyCommands, cmd.Name)
}

func newCommand(info, separator string, escapes []string, value string) (Command, bool) {
	name, props, _ := strings.Cut(info, " ")
	if name == "" {
		return Command{}, false
	}
	cmd := Command{Name: strings.ToLower(name), Value: value}
	for p := range strings.SplitSeq(strings.TrimSpace(props), separator) {
		k, v, _ := strings.Cut(strings.TrimLeft(p, "="), "=")
		if k != "" && v != "" {
			cmd.Props = append(cmd.Props, Var{Name: k, Value: unescape(v, escapes)})
		}
	}
	return cmd, true
}

// ParseEnvFile reads a GITHUB_ENV, GITHUB_OUTPUT or GITHUB_STATE file: lines
// "name=value", and "name<<delimiter" with the lines of the value up to the
// delimiter on a line of its own. Entries are in order and names may repeat;
// the later entry wins. A malformed file is an error and yields nothing, as a
// part of it could be what someone else wanted to be read.
func ParseEnvFile(src []byte) ([]Var, error) {
	if len(src) > maxEnvFileBytes {
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "the file has %d bytes; at most %d are read", len(src), maxEnvFileBytes).
			WithHint("write large results to a file and upload it as an artifact")
	}
	var out []Var
	rest := strings.TrimPrefix(string(src), "\ufeff")
	for n := 1; rest != ""; n++ {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		if line == "" {
			continue
		}
		if len(out) == maxEnvFileVars {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "line %d: more than %d entries", n, maxEnvFileVars)
		}
		eq, doc := strings.Index(line, "="), strings.Index(line, "<<")
		switch {
		case eq >= 0 && (doc < 0 || eq < doc):
			if eq == 0 {
				return nil, sallyport.Errorf(sallyport.CodeInvalid, "line %d: the name before = is missing", n)
			}
			out = append(out, Var{Name: line[:eq], Value: line[eq+1:]})
		case doc >= 0:
			name, delimiter := line[:doc], line[doc+2:]
			if name == "" || delimiter == "" {
				return nil, sallyport.Errorf(sallyport.CodeInvalid, "line %d: a name and a delimiter are needed, as in name<<EOF", n)
			}
			value, after, lines, ok := heredoc(rest, delimiter)
			if !ok {
				return nil, sallyport.Errorf(sallyport.CodeInvalid, "line %d: the value of %s never ends: its delimiter %s is not found on a line of its own", n, quote(name), quote(delimiter))
			}
			out = append(out, Var{Name: name, Value: value})
			rest, n = after, n+lines
		default:
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "line %d: %s is neither name=value nor name<<delimiter", n, quote(line)).
				WithHint("write values of several lines as name<<EOF, the lines, EOF")
		}
	}
	return out, nil
}

// heredoc returns the lines before the delimiter, the text after it and how
// many lines both took.
func heredoc(text, delimiter string) (value, rest string, lines int, ok bool) {
	for off := 0; off < len(text); {
		lines++
		end := strings.IndexByte(text[off:], '\n')
		line, next := text[off:], len(text)
		if end >= 0 {
			line, next = text[off:off+end], off+end+1
		}
		if line == delimiter {
			value = strings.TrimSuffix(text[:off], "\n")
			return value, text[next:], lines, true
		}
		off = next
	}
	return "", "", lines, false
}
