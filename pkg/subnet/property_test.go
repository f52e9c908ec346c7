package subnet_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// Whatever calls are refused and whatever replies are lost, no two managers
// ever hold overlapping subnets, and once the faults end each of them holds
// one that the store shows as its own.
func TestManagersNeverShareASubnet(t *testing.T) {
	configs := []subnet.Config{
		mustConfig(`{"Network":"10.1.0.0/24","SubnetLen":28}`),
		mustConfig(`{"Network":"10.1.0.0/24","SubnetLen":28}`),
		mustConfig(`{"Network":"10.1.0.0/24","SubnetLen":27}`), // saw the config before it was changed
	}
	rapid.Check(t, func(rt *rapid.T) {
		hosts := rapid.IntRange(2, 4).Draw(rt, "hosts")
		faults := make([][]subnettest.Fault, hosts)
		choice := make([]int, hosts)
		first := make([]string, hosts)
		latency := make([]time.Duration, hosts)
		for i := range hosts {
			faults[i] = rapid.SliceOfN(rapid.SampledFrom([]subnettest.Fault{subnettest.None, subnettest.None, subnettest.Refused, subnettest.Lost}), 0, 12).Draw(rt, "faults")
			latency[i] = time.Duration(rapid.IntRange(0, 50).Draw(rt, "latency")) * time.Millisecond
			choice[i] = rapid.IntRange(0, len(configs)-1).Draw(rt, "config")
			first[i] = rapid.SampledFrom([]string{"", "10.1.0.48/28", "10.1.0.32/27"}).Draw(rt, "subnet file")
		}
		steps := rapid.SliceOfN(rapid.IntRange(0, 5*hosts-1), 0, 12).Draw(rt, "steps")

		var violation string // told outside of the bubble, where rapid can shrink the case
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			var all []*host
			for i := range hosts {
				var options []hostOption
				if first[i] != "" {
					options = append(options, previous(first[i]))
				}
				h := start(t, store, nil, options...)
				var mu sync.Mutex // watch and writes call at the same time
				queue := faults[i]
				h.client.Inject(func(string) subnettest.Fault {
					time.Sleep(latency[i])
					mu.Lock()
					defer mu.Unlock()
					if len(queue) == 0 {
						return subnettest.None
					}
					f := queue[0]
					queue = queue[1:]
					return f
				})
				h.Claim(subnet.Claim{Config: configs[choice[i]], Attrs: attrs(fmt.Sprintf("10.4.7.%d", 21+i))})
				all = append(all, h)
			}
			violated := func(format string, args ...any) {
				if violation == "" {
					violation = fmt.Sprintf(format, args...) + fmt.Sprintf("; store: %v", store.Entries())
				}
			}
			check := func(moment string) {
				for i, a := range all {
					for _, b := range all[:i] {
						x, y := a.View().Own.Subnet, b.View().Own.Subnet
						if x.IsValid() && y.IsValid() && x.Overlaps(y) {
							violated("%s: two hosts hold %v and %v", moment, x, y)
						}
					}
				}
			}
			for n, s := range steps {
				h := all[s%hosts]
				switch s / hosts {
				case 0:
					h.client.Partition(true)
				case 1:
					h.client.Partition(false)
				case 2: // overrun the history
					for range subnettest.HistoryLength + 1 {
						store.Set("other", "", 0)
					}
				case 3:
					time.Sleep(time.Second)
				case 4:
					time.Sleep(50 * time.Millisecond)
				}
				synctest.Wait()
				check(fmt.Sprintf("after step %d", n))
			}
			for _, h := range all {
				h.client.Partition(false)
			}
			for range 200 {
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				check("while it settles")
			}
			for i, h := range all {
				held := h.View().Own
				ip := netip.MustParseAddr(fmt.Sprintf("10.4.7.%d", 21+i))
				shown := slices.ContainsFunc(store.Entries(), func(e subnet.Entry) bool {
					return e.Key == subnet.Key(held.Subnet) && e.Value == held.Marshal()
				})
				if held.PublicIP != ip || !shown {
					violated("host %v ends with %v, which the store does not show as its own", ip, held)
				}
				h.stop()
			}
		})
		if violation != "" {
			rt.Fatal(violation)
		}
	})
}
