package subnettest

import (
	"testing"

	"flanneld/pkg/subnet"
)

func TestConformance(t *testing.T) {
	Conformance(t, func(*testing.T) subnet.Registry { return NewStore().Client() })
}
