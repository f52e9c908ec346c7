package etcdv2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/etcd/client/v2"

	"flanneld/pkg/subnet/etcdconn"
)

// explain puts an error on one line, with the endpoint and what to do.
func (r *Registry) explain(what string, err error) error {
	member := r.members.last().member
	var said client.Error
	var all *client.ClusterError
	var number *strconv.NumError
	ports := etcdconn.AdviseOnPorts(r.endpoints, member)
	switch {
	case errors.As(err, &said):
		err, ports = r.answered(member, said), ""
	case errors.As(err, &all):
		err = joint{all}
	case errors.Is(err, client.ErrInvalidJSON):
		err = fmt.Errorf("%s answers with something that is not etcd's JSON", member)
	case errors.Is(err, client.ErrEmptyBody):
		err = fmt.Errorf("%s answers with nothing", member)
	case errors.As(err, &number):
		err = fmt.Errorf("%s answers with an index that is none: %w", member, err)
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no complete answer in time from %s: %w", strings.Join(r.endpoints, ", "), err)
	case strings.HasPrefix(err.Error(), fromClient):
		err = errors.New(strings.TrimPrefix(err.Error(), fromClient))
	}
	return fmt.Errorf("%s: %w%s", what, err, ports)
}

// fromClient begins errors that client/v2 has worded.
const fromClient = "client: "

// answered is [answered], with what is to be taken away where that is it.
func (r *Registry) answered(member string, e client.Error) error {
	switch e.Code {
	case client.ErrorCodeNotFile:
		return r.blocked(member, e.Cause, true)
	case client.ErrorCodeNotDir:
		return r.blocked(member, e.Cause, false)
	}
	return answered(member, e)
}

// answered puts etcd's own error into words.
func answered(member string, e client.Error) error {
	if e.Code == client.ErrorCodeUnauthorized {
		return etcdconn.Denied(fmt.Sprintf("%s wants a user with other rights or another password: %s", member, inWords(e)))
	}
	return fmt.Errorf("%s answers: %s", member, inWords(e))
}

func inWords(e client.Error) string {
	return fmt.Sprintf("%s (%s), error %d", etcdconn.Printable(e.Message), etcdconn.Printable(e.Cause), e.Code)
}

// joint is what each endpoint said, in one line.
type joint struct{ *client.ClusterError }

func (j joint) Unwrap() []error { return j.Errors }

// Is implements errors.Is: not all endpoints say that they do not serve the API.
func (j joint) Is(target error) bool {
	lacks := func(err error) bool { return errors.Is(err, ErrNotServed) }
	return target == etcdconn.ErrPartly && slices.ContainsFunc(j.Errors, lacks) &&
		slices.ContainsFunc(j.Errors, func(err error) bool { return !lacks(err) })
}

func (j joint) Error() string {
	var said []string
	for _, err := range j.Errors {
		if line := strings.TrimPrefix(err.Error(), fromClient); !slices.Contains(said, line) {
			said = append(said, line)
		}
	}
	return strings.Join(said, "; ")
}
