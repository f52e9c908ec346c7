package subnet

import (
	"net/netip"
	"slices"
)

// Free returns the first n subnets that may be leased and overlap none of
// taken, in ascending order.
func (c Config) Free(taken []netip.Prefix, n int) []netip.Prefix {
	taken = slices.SortedFunc(slices.Values(taken), netip.Prefix.Compare)
	size := uint64(1) << (32 - c.SubnetLen)
	last := uint64(toUint(c.SubnetMax))
	var free []netip.Prefix
	for at, i := uint64(toUint(c.SubnetMin)), 0; at <= last && len(free) < n; {
		if i < len(taken) {
			from, to := span(taken[i])
			if to < at { // lies behind us
				i++
				continue
			}
			if from < at+size { // in the way: go on at the first subnet after it
				at = max(at+size, (to/size+1)*size)
				continue
			}
		}
		free = append(free, netip.PrefixFrom(toAddr(uint32(at)), c.SubnetLen))
		at += size
	}
	return free
}

// span is p's first and last address as numbers.
func span(p netip.Prefix) (from, to uint64) {
	from = uint64(toUint(p.Masked().Addr()))
	return from, from + 1<<(32-p.Bits()) - 1
}
