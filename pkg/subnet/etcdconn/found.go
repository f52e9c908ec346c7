package etcdconn

// Found is what lies at an absolute key.
type Found struct {
	Value   string
	Blocked string // it is a directory, and what takes that away; by the v2 API alone
}
