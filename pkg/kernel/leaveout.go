package kernel

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// leaveOut has the kernel keep from a socket what it would tell of another socket's
// requests, and of neighbours on some interfaces, by index. A start writes thousands of
// routes, and a host talks to hundreds of others beneath its tunnel: each would wake the
// program. The filter is one of socket(7), SO_ATTACH_FILTER, and sees a message as it would
// be received: of whose request it speaks is in its header (netlink(7), nlmsg_pid), and
// of which interface behind that of a neighbour (rtnetlink(7), ndm_ifindex).
// Where it cannot be attached, a pass that wrote is followed by one more.
func leaveOut(fd int, port uint32, ofNeighbours []int) {
	const kind, requester, index, drop, pass = 4, 12, 20, 0, 1<<32 - 1
	ofNeighbours = ofNeighbours[:min(len(ofNeighbours), 100)] // a jump leads no further than 255 instructions
	n := uint8(len(ofNeighbours))
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: requester},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: n + 5, K: word(port)},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: kind},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: half(unix.RTM_NEWNEIGH)},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: n + 1, K: half(unix.RTM_DELNEIGH)},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: index},
	}
	for i, x := range ofNeighbours {
		program = append(program, unix.SockFilter{
			Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: n - uint8(i), K: word(uint32(x)),
		})
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: pass},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: drop})
	_ = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// A filter reads numbers as the network has them, where netlink's are the host's.

func word(n uint32) uint32 { return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, n)) }

func half(n uint16) uint32 {
	return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n)))
}

// deafen leaves out the neighbours on the interfaces that matter and are no devices of ours, as
// long as they have these names. The caller holds w.mu.
func (w *Watcher) deafen() {
	var deaf []int
	for index, name := range w.names {
		if w.links[name] && !w.devices[name] {
			deaf = append(deaf, index)
		}
	}
	slices.Sort(deaf)
	if w.ended || slices.Equal(deaf, w.deaf) {
		return
	}
	raw, err := w.socket.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { leaveOut(int(fd), w.port, deaf) })
	}
	if err == nil {
		w.deaf = deaf
	}
}
