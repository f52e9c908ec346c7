package subnet

import (
	"net/netip"
	"slices"

	"flanneld/pkg/inet"
)

// Free returns the first n subnets that may be leased and overlap none of
// taken, in ascending order.
func (c Config) Free(taken []netip.Prefix, n int) (free []netip.Prefix) {
	taken = slices.Clone(taken)
	slices.SortFunc(taken, netip.Prefix.Compare)
	at, more := netip.PrefixFrom(c.SubnetMin, c.SubnetLen), true
	for i := 0; more && !c.SubnetMax.Less(at.Addr()) && len(free) < n; {
		if i < len(taken) {
			last := inet.Last(taken[i])
			behind := last.Less(at.Addr())
			if !behind && taken[i].Overlaps(at) { // go on at the first subnet after it
				at, more = inet.Next(inet.Subnet(last, c.SubnetLen))
				behind = true
			}
			if behind {
				i++
				continue
			}
		}
		free = append(free, at)
		at, more = inet.Next(at)
	}
	return free
}
