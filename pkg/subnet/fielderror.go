package subnet

import (
	"encoding/json"
	"errors"
	"fmt"

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
	return fmt.Sprintf("%s %s %s", e.Field, printable.Quoted(e.Value, longestShown), e.Reason)
}

// longestShown bounds what is shown of a wrong value, in bytes.
const longestShown = 200

// unmarshal is json.Unmarshal with the error in an operator's words.
func unmarshal(raw []byte, into any) error {
	err := json.Unmarshal(raw, into)
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
