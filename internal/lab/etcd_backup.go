package lab

import (
	"os"
	"os/exec"
	"path/filepath"
)

// Backup copies the members' folders while they are stopped, and starts them again. restore kills them, puts the copies
// back, and starts them: the cluster's ID is the same, and raft's term goes on from where it was.
func (e *Etcd) Backup() (restore func()) {
	e.t.Helper()
	copies := e.t.TempDir()
	e.Stop()
	for _, m := range e.Members {
		e.copyFolder(m.data, filepath.Join(copies, m.name))
	}
	e.Start()
	return func() {
		e.t.Helper()
		e.Kill()
		for _, m := range e.Members {
			e.removeData(m)
			e.copyFolder(filepath.Join(copies, m.name), m.data)
		}
		e.Start()
	}
}

// Snapshot has etcdctl save the v3 store of a cluster of one member. restore makes a new cluster of it, with the same flags
// and so with the same ID; raft's term begins anew.
func (e *Etcd) Snapshot() (restore func()) {
	e.t.Helper()
	m, file := e.Members[0], filepath.Join(e.t.TempDir(), "snapshot")
	e.etcdctl("--endpoints="+m.Endpoint, "snapshot", "save", file)
	return func() {
		e.t.Helper()
		e.Kill()
		e.removeData(m)
		e.etcdctl("snapshot", "restore", file, "--data-dir="+m.data, "--name="+m.name,
			"--initial-cluster="+m.name+"="+m.peerURL, "--initial-advertise-peer-urls="+m.peerURL)
		e.Start()
	}
}

func (e *Etcd) etcdctl(args ...string) {
	e.t.Helper()
	cmd := exec.Command(Etcdctl(e.t), args...)
	cmd.Env = []string{"ETCDCTL_API=3"}
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("lab: etcdctl %v: %v: %s", args, err, out)
	}
}

func (e *Etcd) removeData(m *Member) {
	e.t.Helper()
	if err := os.RemoveAll(m.data); err != nil {
		e.t.Fatalf("lab: %v", err)
	}
}

func (e *Etcd) copyFolder(from, to string) {
	e.t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		e.t.Fatalf("lab: %v", err)
	}
}
