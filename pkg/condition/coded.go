package condition

import "errors"

// Coded gives an error the code of the condition that it makes, for CodeOf; nil stays nil.
func Coded(code Code, err error) error {
	if err == nil {
		return nil
	}
	return &coded{code, err}
}

type coded struct {
	code Code
	error
}

func (c *coded) Unwrap() error { return c.error }

// CodeOf is the code that an error has been given, or another one where it has none.
func CodeOf(err error, otherwise Code) Code {
	var c *coded
	if errors.As(err, &c) {
		return c.code
	}
	return otherwise
}
