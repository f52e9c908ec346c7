package lab

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Dropped is what the kernel could not keep because all labs of a machine, and whatever else runs on
// it, share the room.
type Dropped struct {
	Packets  uint64 // each CPU has one queue for all that arrives
	Cleanups uint64 // of a table of neighbours that had no room; those in use may go, too
	Full     uint64 // times that a neighbour found no room after that
}

func (d Dropped) String() string {
	return fmt.Sprintf("meanwhile the machine dropped %d packets from its CPUs' queues, "+
		"made room for neighbours %d times, and had none %d times", d.Packets, d.Cleanups, d.Full)
}

// or is what was dropped in either of two times that are nearly one.
func (d Dropped) or(o Dropped) Dropped {
	return Dropped{max(d.Packets, o.Packets), max(d.Cleanups, o.Cleanups), max(d.Full, o.Full)}
}

// since is what was dropped after an earlier time.
func (d Dropped) since(then Dropped) Dropped {
	return Dropped{d.Packets - then.Packets, d.Cleanups - then.Cleanups, d.Full - then.Full}
}

// dropped is that since the machine started. It is no reason to end a test if a kernel does not tell.
func dropped() Dropped {
	d := Dropped{Packets: droppedPackets()}
	for _, s := range neighbourStats() {
		d.Cleanups += s[forcedGC]
		d.Full += s[tableFulls]
	}
	return d
}

// droppedPackets is the second number of each CPU's row.
func droppedPackets() (sum uint64) {
	content, _ := os.ReadFile("/proc/net/softnet_stat")
	for row := range strings.Lines(string(content)) {
		if numbers := strings.Fields(row); len(numbers) > 1 {
			n, _ := strconv.ParseUint(numbers[1], 16, 64)
			sum += n
		}
	}
	return sum
}

// The statistics of a neighbour table, as in linux/neighbour.h: their attribute, how many numbers of
// 64 bits they are, and the places of some.
const (
	ndtaStats  = 7
	ndtStats   = 11
	lookups    = 4
	forcedGC   = 9
	tableFulls = 10
)

func neighbourStats() (all [][ndtStats]uint64) {
	ask := nl.NewNetlinkRequest(unix.RTM_GETNEIGHTBL, unix.NLM_F_DUMP)
	ask.AddRawData([]byte{unix.AF_UNSPEC, 0, 0, 0}) // struct ndtmsg
	tables, _ := ask.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGHTBL)
	for _, table := range tables {
		attributes, _ := nl.ParseRouteAttr(table[4:])
		for _, a := range attributes {
			var s [ndtStats]uint64
			if _, err := binary.Decode(a.Value, binary.NativeEndian, &s); a.Attr.Type == ndtaStats && err == nil {
				all = append(all, s)
			}
		}
	}
	return all
}
