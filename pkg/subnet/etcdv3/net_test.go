package etcdv3

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
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

// TestNetworkFaults runs three members on hosts of their own, and this process
// on the segment between them.
func TestNetworkFaults(t *testing.T) {
	ip(t, `link add segment type bridge
		addr add 10.9.0.254/24 dev segment
		link set segment up`)
	t.Cleanup(func() { ip(t, "link del segment") })
	var members []lab.EtcdMember
	for i := 1; i <= 3; i++ {
		ip(t, strings.ReplaceAll(`netns add m#
			link add port# type veth peer name eth0 netns m#
			link set port# master segment up
			-n m# link set lo up
			-n m# addr add 10.9.0.#/24 dev eth0
			-n m# link set eth0 up`, "#", fmt.Sprint(i)))
		t.Cleanup(func() { ip(t, fmt.Sprintf("netns del m%d", i)) })
		members = append(members, lab.EtcdMember{Netns: fmt.Sprintf("m%d", i), IP: fmt.Sprintf("10.9.0.%d", i)})
	}
	etcd := startEtcd(t, lab.EtcdOptions{API: 3, Members: members})
	fast := func(l *limits) { l.connect, l.attempt, l.silence = 500*time.Millisecond, 2*time.Second, time.Second }
	// write creates a lease, once: etcd may get to know of an attempt late.
	write := func(t *testing.T, value string) {
		t.Helper()
		r := open(t, Config{Endpoints: etcd.Endpoints()}, fast)
		lab.Eventually(t, patience, "a write", func() error {
			_, err := r.Put(t.Context(), subnet.Entry{Key: "subnets/" + value, Value: value})
			return err
		})
	}
	// at is the number of the member that a Registry has asked last.
	at := func(r *Registry) string {
		return strings.TrimSuffix(strings.TrimPrefix(r.Member(), "http://10.9.0."), ":2379")
	}

	t.Run("a host goes dark under a watch", func(t *testing.T) {
		r := open(t, Config{Endpoints: etcd.Endpoints()}) // with the daemon's own limits
		start := list(t, r).Index
		w := follow(t, r, start).stands()
		dark := at(r)
		ip(t, "link set port"+dark+" down")
		begun := time.Now()
		saysWhat(t, w.fails(), "watch "+prefix, "http://10.9.0."+dark+":2379: ", "timed out")
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("noticed after %v", took)
		}
		w = follow(t, r, start).stands()
		if at(r) == dark {
			t.Errorf("still watching at %s", dark)
		}
		write(t, "dark")
		w.next("dark")
		w.end()

		for range 5 { // whichever endpoint it tries first
			begun := time.Now()
			list(t, open(t, Config{Endpoints: etcd.Endpoints()}, fast))
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("with a dark host it takes %v", took)
			}
		}
		_, err := open(t, Config{Endpoints: []string{"http://10.9.0." + dark + ":2379"}}, fast).List(t.Context())
		saysWhat(t, err, "list "+prefix+": http://10.9.0."+dark+":2379: ")
		ip(t, "link set port"+dark+" up")
	})

	t.Run("a member is cut off from the others", func(t *testing.T) {
		r := open(t, Config{Endpoints: etcd.Endpoints()}, fast)
		w := follow(t, r, list(t, r).Index).stands()
		alone := at(r)
		for _, m := range members {
			if m.Netns != "m"+alone {
				ip(t, "-n m"+alone+" route add blackhole "+m.IP)
			}
		}
		// The watch stands at a member that hears of nothing any more.
		saysWhat(t, w.fails(), "watch "+prefix, "http://10.9.0."+alone+":2379 answers: no leader")
		var start uint64
		lab.Eventually(t, patience, "a list from the others", func() error { // who may have to elect a leader
			s, err := r.List(t.Context())
			start = s.Index
			return err
		})
		events := keepFollowing(t, r, start)
		write(t, "alone")
		select {
		case e := <-events:
			if e.Value != "alone" {
				t.Errorf("event %+v", e)
			}
		case <-time.After(patience):
			t.Error("no event")
		}
		for _, m := range members {
			if m.Netns != "m"+alone {
				ip(t, "-n m"+alone+" route del blackhole "+m.IP)
			}
		}
	})
}
