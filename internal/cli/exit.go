package cli

import (
	"errors"
	"fmt"
)

// Codes by which a program ends.
const (
	Failed = 1
	Usage  = 2 // the command line is wrong; Go programs' code for that
)

// Exit is an error that knows the program's exit code. Its text is one line.
type Exit struct {
	Code int
	Text string
}

func (e *Exit) Error() string { return e.Text }

// Exitf words one.
func Exitf(code int, format string, args ...any) *Exit {
	return &Exit{code, fmt.Sprintf(format, args...)}
}

// Code is the exit code that an error asks for: Failed unless it is an [Exit].
func Code(err error) int {
	var e *Exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Code
	}
	return Failed
}
