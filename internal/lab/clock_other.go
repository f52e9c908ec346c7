//go:build !amd64

package lab

import "time"

// StepsClocks reports whether StepClock works on this architecture.
const StepsClocks = false

// StepClock ends the test: what it takes is known for amd64 alone.
func (d *Daemon) StepClock(time.Duration) {
	d.lab.t.Helper()
	d.lab.t.Fatalf("lab: the clock of one process can be stepped on amd64 alone")
}
