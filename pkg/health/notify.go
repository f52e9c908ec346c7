package health

import (
	"strings"

	"k8s.io/klog/v2"

	"flanneld/pkg/printable"
)

// Notify tells the service manager that started the daemon how it is, in
// assignments as of sd_notify(3): "READY=1", "STOPPING=1", "STATUS=a line for
// people". Where NOTIFY_SOCKET is not set nobody wants to know. A failure is
// logged, as the daemon can do its work without the manager; so is that the manager
// reads nothing for managerTime.
func Notify(assignments ...string) {
	var lines []string
	for _, a := range assignments {
		line := strings.Join(strings.Fields(a), " ") // a line break would begin another one
		lines = append(lines, printable.Bounded(line, printable.Longest))
	}
	if err := tell(strings.Join(lines, "\n"), nil); err != nil {
		klog.ErrorS(err, "Cannot notify the service manager at NOTIFY_SOCKET", "assignments", assignments)
	}
}
