// Package reflect2 is what etcd's client/v2 names of github.com/modern-go/reflect2.
// The package jsoniter beside it says why.
package reflect2

// Type is the type of a value.
type Type interface{ String() string }
