package kernel

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// message is one as the kernel sends it.
func message(kind, flags uint16, seq uint32, body ...byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = append(binary.NativeEndian.AppendUint32(b, 0), body...)
	return append(b, make([]byte, aligned(len(b))-len(b))...)
}

// errno is the body of an error message, with what may follow.
func errno(n syscall.Errno, more ...byte) []byte {
	return append(binary.NativeEndian.AppendUint32(nil, uint32(-int32(n))), more...)
}

func TestListener(t *testing.T) {
	const seq, multi = 7, unix.NLM_F_MULTI
	entry := func(text string) []byte { return message(unix.RTM_NEWROUTE, multi, seq, []byte(text)...) }
	reason := append(make([]byte, unix.SizeofNlMsghdr), nl.NewRtAttr(unix.NLMSGERR_ATTR_MSG, nl.ZeroTerminated("because")).Serialize()...)
	for _, c := range []struct {
		name string
		data [][]byte // of one message
		got  string
		over bool
		err  string
	}{
		{"nothing", nil, "", false, ""},
		{"the first part of a list", [][]byte{entry("a"), entry("bcdef")}, "a bcdef", false, ""},
		{"a list to its end", [][]byte{entry("a"), message(unix.NLMSG_DONE, multi, seq, errno(0)...)}, "a", true, ""},
		{"an end without a number", [][]byte{entry("a"), message(unix.NLMSG_DONE, multi, seq)}, "a", true, ""},
		{"an end with an error", [][]byte{entry("a"), message(unix.NLMSG_DONE, multi, seq, errno(unix.ENODEV)...)}, "a", true, "no such device"},
		{"an answer of one message", [][]byte{message(unix.RTM_NEWROUTE, 0, seq, 'a')}, "a", true, ""},
		{"an earlier answer's rest", [][]byte{message(unix.NLMSG_DONE, multi, seq-1), entry("a")}, "a", false, ""},
		{"a refusal", [][]byte{message(unix.NLMSG_ERROR, 0, seq, errno(unix.EPERM)...)}, "", true, "operation not permitted"},
		{"a refusal with a reason",
			[][]byte{message(unix.NLMSG_ERROR, unix.NLM_F_CAPPED|unix.NLM_F_ACK_TLVS, seq, errno(unix.EINVAL, reason...)...)}, "", true, "invalid argument: because"},
		{"interrupted at the end", [][]byte{entry("a"), message(unix.NLMSG_DONE, multi|unix.NLM_F_DUMP_INTR, seq)}, "a", true, netlink.ErrDumpInterrupted.Error()},
		{"interrupted before", [][]byte{message(unix.RTM_NEWROUTE, multi|unix.NLM_F_DUMP_INTR, seq), message(unix.NLMSG_DONE, multi, seq)}, "",
			true, netlink.ErrDumpInterrupted.Error()},
		{"another list was interrupted", [][]byte{message(unix.RTM_NEWROUTE, multi|unix.NLM_F_DUMP_INTR, seq-1), message(unix.NLMSG_DONE, multi, seq)}, "", true, ""},
		{"cut short", [][]byte{entry("a"), entry("bcdef")[:19]}, "a", false, ""},
	} {
		var got []string
		l := listener{seq: seq, f: func(body []byte) { got = append(got, string(body)) }}
		over, err := l.listen(messages(slices.Concat(c.data...)))
		text := ""
		if err != nil {
			text = err.Error()
		}
		if joined := strings.TrimSpace(strings.Join(got, " ")); joined != c.got || over != c.over || text != c.err {
			t.Errorf("%s: got %q, over %v, error %q; want %q, %v, %q", c.name, joined, over, text, c.got, c.over, c.err)
		}
	}
}

func TestInterruptedListIsReadAgain(t *testing.T) {
	for interruptions, want := range map[int]bool{0: true, 1: true, 9: true, 10: false} {
		tries := 0
		got, err := dump(func() ([]int, error) {
			tries++
			if tries <= interruptions {
				return []int{1}, netlink.ErrDumpInterrupted
			}
			return []int{1, 2}, nil
		})
		if (err == nil) != want || want && len(got) != 2 || !want && got != nil {
			t.Errorf("after %d interruptions: %v, %v", interruptions, got, err)
		}
	}
	fails := func() ([]int, error) { return nil, unix.EPERM }
	if _, err := dump(fails); !errors.Is(err, unix.EPERM) {
		t.Errorf("a failure that no repetition fixes: %v", err)
	}
}

// FuzzMessages: whatever arrives, reading it ends well, and where the netlink
// library makes sense of it we make the same.
func FuzzMessages(f *testing.F) {
	route := (&nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Dst_len: 24, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST}}).Serialize()
	for kind := range uint16(rtaNextHop + 1) {
		for _, size := range []int{0, 1, 3, 4, 7, 16} {
			route = append(route, nl.NewRtAttr(int(kind), make([]byte, size)).Serialize()...)
		}
	}
	neighbour := append((&netlink.Ndmsg{Family: unix.AF_BRIDGE}).Serialize(), nl.NewRtAttr(unix.NDA_LLADDR, make([]byte, 20)).Serialize()...)
	f.Add(message(unix.RTM_NEWROUTE, unix.NLM_F_MULTI, 1, route...))
	f.Add(append(message(unix.RTM_NEWNEIGH, 0, 1, neighbour...), message(unix.NLMSG_DONE, 0, 1)...))
	f.Add(message(unix.NLMSG_ERROR, unix.NLM_F_CAPPED|unix.NLM_F_ACK_TLVS, 1, errno(unix.EINVAL, make([]byte, 17)...)...))
	f.Add(message(unix.RTM_NEWROUTE, 0, 1, slices.Concat([]byte{unix.AF_INET, 33}, route[2:unix.SizeofRtMsg])...))
	f.Add([]byte{16, 0, 0, 0, 2, 0, 0, 0})
	short := nl.NewRtAttr(unix.RTA_DST, make([]byte, 5)).Serialize() // which is no address
	f.Add(slices.Concat([]byte{unix.AF_INET6, 24}, make([]byte, unix.SizeofRtMsg-2), short))
	f.Fuzz(func(t *testing.T, data []byte) {
		library, err := syscall.ParseNetlinkMessage(data)
		n := 0
		for h, body := range messages(data) {
			if err == nil && (n >= len(library) || h != unix.NlMsghdr(library[n].Header) || string(body) != string(library[n].Data)) {
				t.Fatalf("message %d is not the library's: %v %x", n, h, body)
			}
			n++
			_ = replyError(h, body)
			readOne(t, body)
		}
		if err == nil && n != len(library) {
			t.Fatalf("%d messages, %d by the library", n, len(library))
		}
		readOne(t, data)
	})
}

func readOne(t *testing.T, body []byte) {
	if r, ok := readRoute(body); ok {
		if family, _ := familyOf(body[0]); !r.dst.IsValid() || inet.Of(r.dst.Addr()) != family {
			t.Fatalf("a route to %v from %x", r.dst, body)
		}
	}
	_, _ = readNeighbour(body)
	if n, ok := readNexthop(body); ok && n.found(nil).ID == 0 {
		t.Fatalf("a next hop object without an id from %x", body)
	}
	whole := body[:len(body)&^3] // the library panics where the last attribute is not filled up
	library, err := nl.ParseRouteAttr(whole)
	if err != nil {
		return
	}
	n := 0
	for kind, value := range attributes(whole) {
		if n >= len(library) || kind != library[n].Attr.Type || string(value) != string(library[n].Value) {
			t.Fatalf("attribute %d is not the library's: %d %x", n, kind, value)
		}
		n++
	}
	if n != len(library) {
		t.Fatalf("%d attributes, %d by the library", n, len(library))
	}
}
