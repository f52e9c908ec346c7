// Package extif chooses the external interface: the one that reaches the other
// hosts, whose address goes into the lease. The choice is a pure function of
// the options and of the interfaces that there are.
package extif
