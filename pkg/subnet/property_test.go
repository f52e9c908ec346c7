package subnet_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"flanneld/pkg/inet"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// Whatever calls are refused, whatever replies are lost, and whichever families the
// config has meanwhile, no two managers ever hold overlapping subnets, and once the faults
// end each of them holds what its config asks for, and the store shows it as its own.
func TestManagersNeverShareASubnet(t *testing.T) {
	configs := []subnet.Config{
		inFamilies["IPv4"], inFamilies["IPv4"], inFamilies["both"], inFamilies["both"], inFamilies["IPv6"],
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
		steps := rapid.SliceOfN(rapid.IntRange(0, 6*hosts-1), 0, 12).Draw(rt, "steps")
		later := rapid.SliceOfN(rapid.IntRange(0, len(configs)-1), len(steps), len(steps)).Draw(rt, "later configs")

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
				all = append(all, h)
			}
			claim := func(i int) {
				c := configs[choice[i]]
				all[i].Claim(subnet.Claim{Config: c, Attrs: attrsOf(c, fmt.Sprintf("10.4.7.%d", 21+i))})
			}
			for i := range all {
				claim(i)
			}
			violated := func(format string, args ...any) {
				if violation == "" {
					violation = fmt.Sprintf(format, args...) + fmt.Sprintf("; store: %v", store.Entries())
				}
			}
			check := func(moment string) {
				for i, a := range all {
					for _, b := range all[:i] {
						if x, y := a.View().Own, b.View().Own; overlap(x, y) {
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
				case 5:
					choice[s%hosts] = later[n]
					claim(s % hosts)
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
				c := configs[choice[i]]
				says := attrsOf(c, fmt.Sprintf("10.4.7.%d", 21+i))
				shown := slices.ContainsFunc(store.Entries(), func(e subnet.Entry) bool {
					a, _ := subnet.ParseAttrs(e.Value)
					return e.Key == held.Key && !slices.ContainsFunc(c.Families(), func(f inet.Family) bool {
						has, _ := a.Of(f)
						want, _ := says.Of(f)
						return has != want
					})
				})
				if len(c.Lacking(held.Subnets())) > 0 || !held.Says(says) || !shown {
					violated("host %d ends with %+v, which its config does not ask for, or the store does not show as its own", i, held)
				}
				h.stop()
			}
		})
		if violation != "" {
			rt.Fatal(violation)
		}
	})
}
