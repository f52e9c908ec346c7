package etcdtest

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// ip runs lines of `ip`.
func ip(t testing.TB, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		if args := strings.Fields(line); len(args) > 0 {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				t.Fatalf("ip %s: %v: %s", line, err, out)
			}
		}
	}
}

// startOnHosts starts three members on hosts of their own, m1 to m3, and puts
// this process on the segment between them.
func (s Suite) startOnHosts(t *testing.T) *lab.Etcd {
	t.Helper()
	ip(t, `link add segment type bridge
		addr add 10.9.0.254/24 dev segment
		link set segment up`)
	t.Cleanup(func() { ip(t, "link del segment") })
	var members []lab.EtcdMember
	for i := 1; i <= 3; i++ {
		number := func(lines string) string { return strings.ReplaceAll(lines, "#", fmt.Sprint(i)) }
		ip(t, number("netns add m#"))
		t.Cleanup(func() { ip(t, number("netns del m#")) })
		ip(t, number("link add port# type veth peer name eth0 netns m#"))
		t.Cleanup(func() { ip(t, number("link del port#")) }) // with its namespace it would go at some later time
		ip(t, number(`link set port# master segment up
			-n m# link set lo up
			-n m# addr add 10.9.0.#/24 dev eth0
			-n m# link set eth0 up`))
		members = append(members, lab.EtcdMember{Netns: number("m#"), IP: number("10.9.0.#")})
	}
	return s.newest(t, func(o *lab.EtcdOptions) { o.Members = members })
}

// asked is the number of the member that a Registry has asked last.
func asked(r Registry) string {
	return strings.TrimSuffix(strings.TrimPrefix(r.Member(), "http://10.9.0."), ":2379")
}

func (s Suite) networkFaults(t *testing.T) {
	etcd := s.startOnHosts(t)
	etcd.Set(Prefix+"/config", "{}")
	c := etcdconn.Config{Endpoints: etcd.Endpoints()}
	// write creates a lease, once: etcd may get to know of an attempt late.
	write := func(t *testing.T, value string) {
		t.Helper()
		r := Open(t, c, s.Impatient)
		lab.Eventually(t, Patience, "a write", func() error {
			_, err := r.Put(t.Context(), subnet.Entry{Key: "subnets/" + value, Value: value})
			return err
		})
	}

	t.Run("a host goes dark under a watch", func(t *testing.T) {
		r := Open(t, c, s.New) // with the daemon's own patience
		w := Follow(t, r, List(t, r).Index).Stands()
		dark := asked(r)
		start := w.mark(r)
		ip(t, "link set port"+dark+" down")
		err := w.Fails()
		WantError(t, err, "watch "+Prefix, "http://10.9.0."+dark+":2379: ")
		// A connection that stands, and one that is just being made, end in different words.
		if text := err.Error(); !strings.Contains(text, "timed out") && !strings.Contains(text, "i/o timeout") {
			t.Errorf("the watch ends by %v", err)
		}
		w = resumes(t, r, start).Stands()
		if asked(r) == dark {
			t.Errorf("still watching at %s", dark)
		}
		write(t, "dark")
		w.Next("dark")
		w.End()

		for range 5 { // whichever endpoint it tries first
			begun := time.Now()
			List(t, Open(t, c, s.Impatient))
			if took := time.Since(begun); took > promptly {
				t.Errorf("with a dark host it takes %v", took)
			}
		}
		endpoint := "http://10.9.0." + dark + ":2379"
		_, err = Open(t, etcdconn.Config{Endpoints: []string{endpoint}}, s.Impatient).List(t.Context())
		WantError(t, err, "list "+Prefix+": "+endpoint+": ")
		ip(t, "link set port"+dark+" up")
	})

	t.Run("a member is cut off from the others", func(t *testing.T) {
		r := Open(t, c, s.Impatient)
		w := KeepFollowing(t, r, List(t, r).Index).Stands()
		alone := asked(r)
		w.mark(r)
		others := func(do string) {
			for _, m := range []string{"1", "2", "3"} {
				if m != alone {
					ip(t, "-n m"+alone+" route "+do+" blackhole 10.9.0."+m)
				}
			}
		}
		others("add")
		// The watch stands at a member that hears of nothing any more.
		if s.NoLeader != "" {
			WantError(t, w.Fails(), "watch "+Prefix, "http://10.9.0."+alone+":2379 answers: "+s.NoLeader)
		}
		write(t, "alone")
		w.Next("alone")
		if asked(r) == alone {
			t.Errorf("still watching at %s", alone)
		}
		others("del")
	})

	t.Run("a member that is watched loses the others", func(t *testing.T) {
		for _, endpoint := range c.Endpoints { // the one that was alone finds its leader again
			each := Open(t, etcdconn.Config{Endpoints: []string{endpoint}}, s.Impatient)
			lab.Eventually(t, Patience, "a list", func() error { _, err := each.List(t.Context()); return err })
		}
		r := Open(t, c, s.New)
		start := List(t, r).Index
		w := Follow(t, r, start).Stands()
		alone := asked(r)
		for _, m := range []string{"1", "2", "3"} {
			if m != alone {
				ip(t, "-n m"+alone+" route add blackhole 10.9.0."+m)
			}
		}
		s.goesOn(t, r, w, start, "http://10.9.0."+alone+":2379")
	})
}
