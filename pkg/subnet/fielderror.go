package subnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"flanneld/pkg/printable"
)

// FieldError says which field of the config is wrong, and why.
type FieldError struct {
	Field  string // "SubnetMin", "Backend.Type"; empty: the document itself
	Value  string // as written; empty: missing
	Reason string
}

func (e *FieldError) Error() string {
	switch {
	case e.Field == "":
		return e.Reason
	case e.Value == "":
		return e.Field + " " + e.Reason
	}
	return fmt.Sprintf("%s %s %s", e.Field, printable.Quoted(ShownWord(e.Value), longestShown), e.Reason)
}

// phrase says what is wrong with a key, to follow its name.
func phrase(err error) string {
	var f *FieldError
	if !errors.As(err, &f) || f.Field == "" {
		return err.Error()
	}
	field := FieldError{Field: f.Field, Value: f.Value, Reason: ""}
	return "has " + strings.TrimSuffix(field.Error(), " ") + ", which " + f.Reason
}

// longestShown bounds what is shown of a wrong value, in bytes.
const longestShown = 200

// unmarshal is json.Unmarshal with the error in an operator's words.
func unmarshal(raw []byte, into any) error {
	err := json.Unmarshal(raw, into)
	if reason := unlike(string(raw)); err != nil && reason != "" {
		return &FieldError{Reason: reason}
	}
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrongType) && wrongType.Field != "":
		want := jsonName(wrongType.Type.Kind().String())
		return &FieldError{Field: wrongType.Field, Reason: fmt.Sprintf("must be a JSON %s, not a %s", want, wrongType.Value)}
	case errors.As(err, &wrongType):
		return &FieldError{Reason: fmt.Sprintf("must be a JSON object, not a %s", wrongType.Value)}
	case errors.As(err, &syntax):
		return &FieldError{Reason: fmt.Sprintf("is not JSON: %v at byte %d", err, syntax.Offset)}
	}
	return &FieldError{Reason: fmt.Sprintf("is not JSON: %v", err)}
}

// unlike names what editors and chat programs put into JSON, and what to do about
// it. Whoever looks at the text does not see it. "": nothing of the kind.
func unlike(text string) string {
	const bom = "\ufeff"
	switch {
	case strings.HasPrefix(text, bom):
		return "begins with a byte order mark (BOM), which an editor has put there: write it again without, " +
			"such as by: sed '1s/^\\xef\\xbb\\xbf//'"
	case strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff"):
		return "is UTF-16, and must be UTF-8: write it again as such"
	}
	inside, escaped := false, false // a string
	for i, r := range text {
		switch {
		case escaped:
			escaped = false
		case inside && r == '\\':
			escaped = true
		case r == '"':
			inside = !inside
		case inside:
		case strings.ContainsRune(curly, r):
			return fmt.Sprintf("has curly quotes (%c, first at byte %d) in place of plain ones: write each as \"", r, i+1)
		case r == '\'':
			return fmt.Sprintf("has single quotes (first at byte %d) in place of double ones: write each as \"", i+1)
		case r != ' ' && unicode.Is(unicode.Zs, r):
			return fmt.Sprintf("has a space that is none to JSON (%U at byte %d): write it as an ordinary one", r, i+1)
		}
	}
	return ""
}

// curly are the quotes that word processors make of plain ones.
const curly = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u00ab\u00bb"

func jsonName(kind string) string {
	switch kind {
	case "int", "uint16", "uint32":
		return "whole number"
	case "bool":
		return "true or false"
	case "struct", "map":
		return "object"
	}
	return kind
}
