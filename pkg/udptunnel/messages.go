package udptunnel

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// message is struct mmsghdr of sendmmsg(2) and recvmmsg(2).
type message struct {
	header unix.Msghdr
	length uint32
}

// segmentSize is the control message of UDP_SEGMENT and UDP_GRO, with room for either's
// number: 16 bits to send, an int on receipt.
type segmentSize struct {
	header unix.Cmsghdr
	value  [8]byte
}

const (
	controlHeader = int(unsafe.Sizeof(unix.Cmsghdr{}))
	controlSpace  = int(unsafe.Sizeof(segmentSize{}))
)

// set makes it say that a message is of datagrams of so many bytes.
func (s *segmentSize) set(bytes int) {
	s.header.Level, s.header.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	s.header.SetLen(controlHeader + 2)
	binary.NativeEndian.PutUint16(s.value[:], uint16(bytes))
}

// get is what it says on receipt; 0 where it is not there.
func (s *segmentSize) get(received int) int {
	if received < controlHeader+4 || s.header.Level != unix.IPPROTO_UDP || s.header.Type != unix.UDP_GRO {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(s.value[:])))
}

func sendMessages(fd uintptr, m []message) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), 0, 0, 0)
	return int(n), errno
}

func receiveMessages(fd uintptr, m []message) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), 0, 0, 0)
	return int(n), errno
}

func sendMessage(fd uintptr, m *unix.Msghdr) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(m)), 0)
	return errno
}

func readPacket(fd uintptr, b []byte) (int, unix.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), errno
}

func writePacket(fd uintptr, v []unix.Iovec) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&v[0])), uintptr(len(v)))
	return errno
}

// vector is the bytes as an element of a vector of readv(2). They must not be empty.
func vector(b []byte) (v unix.Iovec) {
	v.Base = &b[0]
	v.SetLen(len(b))
	return v
}
