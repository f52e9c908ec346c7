package lab

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// StepsClocks reports whether StepClock works on this architecture.
const StepsClocks = true

// StepClock sets the wall clock forward by whole seconds, or back if by is negative,
// for this one process until it ends. Its monotonic clock is not changed. For a frozen
// daemon that looks like a suspend of the machine, which Thaw ends.
//
// Go asks for the time without entering the kernel, by a function in the vDSO
// (vdso(7)), a piece of code that the kernel maps into every process. The lab
// puts other code there, in the one process's copy; debuggers set breakpoints
// the same way. A C library may have further ways to ask, which stay right.
func (d *Daemon) StepClock(by time.Duration) {
	d.lab.t.Helper()
	if frozen, err := d.frozen(); err != nil || !frozen {
		defer d.Thaw()
	}
	Eventually(d.lab.t, waitTimeout, fmt.Sprintf("a moment to step the clock of the daemon on %s", d.Host), func() error {
		d.Freeze()
		err := d.stepClock(by)
		if errors.Is(err, errAsking) {
			d.Thaw()
			return err
		}
		d.lab.must("step the clock of the daemon on "+d.Host.Name, err)
		return nil
	})
}

var errAsking = errors.New("a thread asks for the time just now")

// clockCode is clock_gettime(2) by a system call, with seconds added to
// CLOCK_REALTIME. Both registers that it changes are the caller's to save.
var clockCode = []byte{
	0xb8, 228, 0, 0, 0, // mov eax, 228: clock_gettime
	0x0f, 0x05, //         syscall
	0x85, 0xff, //         test edi, edi: which clock?
	0x75, 13, //           jne ret
	0x48, 0xb9, //         mov rcx, what follows
	0, 0, 0, 0, 0, 0, 0, 0,
	0x48, 0x01, 0x0e, //   add [rsi], rcx: the seconds
	0xc3, //               ret
}

const shiftAt = 13 // the offset of the seconds in clockCode

// stepClock patches a frozen process.
func (d *Daemon) stepClock(by time.Duration) error {
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", d.PID), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	vdso, err := d.findVDSO()
	if err != nil {
		return err
	}
	image := make([]byte, vdso.end-vdso.start)
	if _, err := memory.ReadAt(image, int64(vdso.start)); err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	offset, err := clockGettime(image)
	if err != nil {
		return err
	}
	code, shift := slices.Clone(clockCode), int64(by/time.Second)
	if found := image[offset:]; bytes.HasPrefix(found, clockCode[:shiftAt]) {
		shift += int64(binary.LittleEndian.Uint64(found[shiftAt:]))
	} else if err := d.noThreadIn(vdso); err != nil { // the code that we replace
		return err
	}
	binary.LittleEndian.PutUint64(code[shiftAt:], uint64(shift))
	_, err = memory.WriteAt(code, int64(vdso.start+offset))
	return err
}

// span is a range of addresses.
type span struct{ start, end uint64 }

func (d *Daemon) findVDSO() (span, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", d.PID))
	if err != nil {
		return span{}, err
	}
	for line := range strings.Lines(string(maps)) {
		var s span
		if !strings.HasSuffix(line, " [vdso]\n") {
			continue
		}
		_, err := fmt.Sscanf(line, "%x-%x", &s.start, &s.end)
		return s, err
	}
	return span{}, errors.New("it has no vDSO: boot without vdso=0")
}

// clockGettime is where the vDSO has the function that Go calls
// (runtime/vdso_linux_amd64.go).
func clockGettime(image []byte) (offset uint64, err error) {
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("read the vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("read the vDSO: %w", err)
	}
	const name = "__vdso_clock_gettime"
	for _, s := range symbols {
		if s.Name != name {
			continue
		}
		if n := uint64(len(clockCode)); s.Size < n || s.Value+n > uint64(len(image)) {
			return 0, fmt.Errorf("%s of %d bytes at %#x has no room for other code", name, s.Size, s.Value)
		}
		return s.Value, nil
	}
	return 0, fmt.Errorf("the vDSO has no %s", name)
}

// noThreadIn returns an error if a thread is in s: proc_pid_syscall(5) ends with the
// program counter.
func (d *Daemon) noThreadIn(s span) error {
	where, err := d.perThread("syscall")
	if err != nil {
		return err
	}
	for _, line := range where {
		fields := strings.Fields(line)
		pc, err := strconv.ParseUint(fields[len(fields)-1], 0, 64)
		if err != nil { // "running": it has not stopped yet
			return errAsking
		}
		if s.start <= pc && pc < s.end {
			return errAsking
		}
	}
	return nil
}
