package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// ShellFromOutside is the command that opens a shell on the node from another
// terminal of the machine, for whoever started the lab.
func (n *Node) ShellFromOutside() string {
	n.lab.t.Helper()
	pid, err := OuterPID()
	n.lab.must("learn the lab's process ID", err)
	ip, err := exec.LookPath("ip")
	n.lab.must("find a program", err)
	enter := "nsenter"
	switch {
	case inUserNamespace():
		enter = "nsenter -U --preserve-credentials"
	case os.Getenv("SUDO_UID") != "":
		enter = "sudo nsenter"
	}
	return fmt.Sprintf("%s -m -n -p -t %d %s netns exec %s sh", enter, pid, ip, n.Netns())
}

// inUserNamespace reports whether the lab was started by an ordinary user: root
// keeps the machine's user IDs, all 2³² of them.
func inUserNamespace() bool {
	content, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(content)), " ") != "0 0 4294967295"
}
