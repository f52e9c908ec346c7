package etcdconn

import "errors"

// Found is what lies at an absolute key.
type Found struct {
	Value   string
	Blocked string // it is a directory, and what takes that away; by the v2 API alone
}

// ErrPartly marks an error of which one endpoint says that it does not serve an API,
// while others have not answered: they may serve it.
var ErrPartly = errors.New("not all endpoints have said that they do not serve the other API")
