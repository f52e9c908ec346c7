package udptunnel

import (
	"encoding/binary"
	"math/bits"
)

// sum16 is the one's complement sum of the bytes as big-endian words (RFC 1071). An
// odd last byte is padded by zero.
func sum16(b []byte) uint16 {
	var sum, carry uint64
	for len(b) >= 64 { // in the machine's own order, which gives the same sum with its bytes swapped
		w := b[:64:64]
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(w[0:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(w[8:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(w[16:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(w[24:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(w[32:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(w[40:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(w[48:]), carry)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(w[56:]), carry)
		b = b[64:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) > 0 {
		var rest [8]byte
		copy(rest[:], b)
		sum, carry = bits.Add64(sum, binary.NativeEndian.Uint64(rest[:]), carry)
	}
	sum, carry = bits.Add64(sum, 0, carry)
	var order [2]byte
	binary.NativeEndian.PutUint16(order[:], fold(sum>>32+sum&0xffffffff+carry))
	return binary.BigEndian.Uint16(order[:])
}

// fold makes 16 bits of a sum of words.
func fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}
