package lab

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Member is one etcd of a cluster.
type Member struct {
	Endpoint string // URL for clients
	HTTP     string // URL for HTTP; the same but for [EtcdOptions.OnlyGRPC]

	etcd    *Etcd
	name    string
	where   EtcdMember
	peerURL string
	binary  string
	args    []string
	data    string // folder
	log     string // file

	process *os.Process   // nil: not running
	ended   chan struct{} // closed when the process is gone
}

func (e *Etcd) newMember(binary, name string, where EtcdMember, onlyGRPC bool) *Member {
	e.t.Helper()
	ports := []int{2379, 2380, 2381}
	if netip.MustParseAddr(where.IP).IsLoopback() {
		ports = []int{e.port(where), e.port(where), e.port(where)}
	}
	if !onlyGRPC {
		ports[2] = ports[0]
	}
	scheme := "http://"
	if e.tls != nil {
		scheme = "https://"
	}
	at := func(port int) string { return net.JoinHostPort(where.IP, strconv.Itoa(port)) }
	return &Member{
		Endpoint: scheme + at(ports[0]), peerURL: "http://" + at(ports[1]), HTTP: scheme + at(ports[2]),
		etcd: e, name: name, where: where, binary: binary,
		data: filepath.Join(e.dir, name), log: filepath.Join(e.dir, name+".log"),
	}
}

// Start starts the member if it does not run, and waits until it is ready, for
// which a majority of the cluster must run.
func (m *Member) Start() {
	m.etcd.t.Helper()
	m.start()
	m.waitReady()
}

// start does not set a parent death signal: in the lab, the end of process 1 ends
// everything.
func (m *Member) start() {
	m.etcd.t.Helper()
	if m.process != nil {
		return
	}
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		m.etcd.t.Fatalf("lab: %v", err)
	}
	defer log.Close()
	cmd := exec.Command(m.binary, m.args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // without any ETCD_… of the caller
	cmd.Stdout, cmd.Stderr = log, log
	if err := inNetns(m.where.Netns, cmd.Start); err != nil {
		m.etcd.t.Fatalf("lab: start %s: %v", m.name, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	m.process, m.ended = cmd.Process, ended
}

func (m *Member) waitReady() {
	m.etcd.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*waitTimeout)
	defer cancel()
	for {
		err := m.healthy(ctx)
		if err == nil {
			return
		}
		select {
		case <-m.ended:
			m.etcd.t.Fatalf("lab: %s at %s has ended:\n%s", m.name, m.Endpoint, tail(m.Log(), 20))
		case <-ctx.Done():
			m.etcd.t.Fatalf("lab: %s at %s is not ready: %v\n%s", m.name, m.Endpoint, err, tail(m.Log(), 20))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// healthy asks the member whether it can commit to the cluster's log.
func (m *Member) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.HTTP+"/health", nil)
	if err != nil {
		return err
	}
	reply, err := m.etcd.transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return errors.New(reply.Status)
	}
	return nil
}

// Stop ends the member. Its data is there when it starts again.
func (m *Member) Stop() {
	m.etcd.t.Helper()
	m.interrupt()
	m.waitEnd()
}

func (m *Member) interrupt() { m.Signal(syscall.SIGTERM) }

// waitEnd kills the member after a second: it would wait five for open watches.
func (m *Member) waitEnd() {
	if m.process == nil {
		return
	}
	select {
	case <-m.ended:
	case <-time.After(time.Second):
	}
	m.Kill()
}

// Kill ends the member at once.
func (m *Member) Kill() {
	if m.process == nil {
		return
	}
	m.Signal(syscall.SIGKILL)
	<-m.ended
	m.process = nil
}

// Signal sends a signal to the member, if it runs: SIGSTOP makes it hang,
// SIGCONT go on.
func (m *Member) Signal(s os.Signal) {
	if m.process != nil {
		_ = m.process.Signal(s)
	}
}

// Log is all that the member has logged.
func (m *Member) Log() string {
	log, err := os.ReadFile(m.log)
	if err != nil {
		return err.Error()
	}
	return string(log)
}
