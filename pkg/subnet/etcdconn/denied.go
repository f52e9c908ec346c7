package etcdconn

import "io/fs"

// Denied is an error that says that flanneld's user lacks rights in etcd.
// errors.Is finds fs.ErrPermission in it.
func Denied(text string) error { return denied(text) }

type denied string

func (d denied) Error() string { return string(d) }
func (d denied) Unwrap() error { return fs.ErrPermission }
