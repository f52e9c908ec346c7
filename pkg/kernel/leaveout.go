package kernel

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// leaveOut has the kernel keep from a socket what it would tell of another socket's
// requests. A start writes thousands of routes, and each would wake the program.
// The filter is one of socket(7), SO_ATTACH_FILTER, and sees a message as it would
// be received: of whose request it speaks is in its header (netlink(7), nlmsg_pid).
// Where it cannot be attached, a pass that wrote is followed by one more.
func leaveOut(fd int, port uint32) {
	const requester, drop, pass = 12, 0, 1<<32 - 1
	// It reads numbers as the network has them, where netlink's are the host's.
	want := binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, port))
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: requester},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: want},
		{Code: unix.BPF_RET | unix.BPF_K, K: drop},
		{Code: unix.BPF_RET | unix.BPF_K, K: pass},
	}
	_ = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}
