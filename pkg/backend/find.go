package backend

import (
	"maps"
	"slices"
	"strings"

	"flanneld/pkg/subnet"
)

// instead says of flannel's types that are not ours which of ours does the same work.
var instead = map[string]string{
	"ipip":        "vxlan carries packets behind routers as ipip does, and host-gw does on one link",
	"ipsec":       "wireguard encrypts as ipsec does",
	"extension":   "alloc leases subnets, and leaves the packets to what you run yourself",
	"aws-vpc":     inCloud,
	"gce":         inCloud,
	"alivpc":      inCloud,
	"ali-vpc":     inCloud,
	"tencent-vpc": inCloud,
}

const inCloud = "vxlan needs nothing of a cloud, and alloc leases subnets for routes that you write there yourself"

// Find is the factory of a config's backend. The error is *subnet.FieldError.
func Find(all map[string]Factory, c subnet.Config) (Factory, error) {
	if build, known := all[c.BackendType]; known {
		return build, nil
	}
	reason := "is not supported: the types are " + strings.Join(slices.Sorted(maps.Keys(all)), ", ")
	if of := instead[c.BackendType]; of != "" {
		reason += "; " + of
	}
	return nil, &subnet.FieldError{Field: "Backend.Type", Value: c.BackendType, Reason: reason}
}
