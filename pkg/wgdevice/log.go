package wgdevice

import (
	"fmt"
	"regexp"

	"golang.zx2c4.com/wireguard/device"
	"k8s.io/klog/v2"

	"flanneld/pkg/printable"
)

// longest is how much of what wireguard-go says is logged, in bytes.
const longest = 300

// logger writes what wireguard-go says to the log where it is asked for: its
// errors are of single packets.
func logger(name string) *device.Logger {
	at := func(level klog.Level) func(string, ...any) {
		return func(format string, args ...any) {
			if v := klog.V(level); v.Enabled() {
				v.InfoS("WireGuard in user space", "device", name, "says", sayable(fmt.Sprintf(format, args...)))
			}
		}
	}
	return &device.Logger{Errorf: at(2), Verbosef: at(5)}
}

// keyLike is what may be a key, in hexadecimal or base64. wireguard-go repeats a
// request's line that it cannot read.
var keyLike = regexp.MustCompile(`[0-9A-Za-z+/=]{32,}`)

func sayable(text string) string {
	return printable.Bounded(keyLike.ReplaceAllString(text, hidden), longest)
}
