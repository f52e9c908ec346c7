package condition_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"flanneld/pkg/condition"
)

func TestCodesAreDescribed(t *testing.T) {
	seen := map[condition.Code]bool{}
	for _, c := range condition.Codes() {
		if about := c.About(); seen[c] || !strings.HasSuffix(about, ".") || c.Severity() == "" {
			t.Errorf("%s: %q, %q", c, about, c.Severity())
		}
		seen[c] = true
	}
	if len(seen) < 20 {
		t.Errorf("codes %v", seen)
	}
	if c := condition.Code("OfALaterRelease"); c.Severity() != condition.Warning || c.Unready() || c.About() != "" {
		t.Error("an unknown code is taken for one of ours")
	}
}

// texts are the lines of a log without times.
func texts(lines []line) (out []string) {
	for _, l := range lines {
		out = append(out, l.level+" "+l.text)
	}
	return out
}

func TestSetLogsTransitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := record(t)
		var set condition.Set
		began := time.Now()
		down := condition.Condition{Code: condition.InterfaceDown, Subject: "ens33", Message: "external interface ens33 is down: waiting for it"}
		for range 3 {
			set.Set(down)
			time.Sleep(time.Second)
		}
		down.Cause = "no carrier"
		set.Set(down)
		down.Since, down.Severity = began, condition.Error
		if diff := cmp.Diff(condition.List{down}, set.List()); diff != "" {
			t.Error(diff)
		}
		set.Clear(condition.InterfaceDown, "ens33")
		set.Clear(condition.InterfaceDown, "ens33")
		for _, is := range []bool{true, true, false} {
			set.Track(condition.Condition{Code: condition.Starting, Message: "not everything is in place yet"}, is)
			if set.List().Has(condition.Starting) != is {
				t.Error("not tracked")
			}
		}
		want := []string{
			`E "External interface ens33 is down: waiting for it" condition="InterfaceDown" severity="error"`,
			`E "External interface ens33 is down: waiting for it" condition="InterfaceDown" severity="error" cause="no carrier"`,
			`I "Condition is over" condition="InterfaceDown" message="external interface ens33 is down: waiting for it: no carrier" lasted="3s"`,
		}
		if diff := cmp.Diff(want, texts(log())); diff != "" {
			t.Error(diff)
		}
	})
}

// TestComesAndGoes has a condition come and go five times a second, as a script makes a route
// do, for ten minutes: the log has few lines of it, each that it is over follows one that it is
// there, and when it stays the log says so.
func TestComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := record(t)
		var set condition.Set
		foreign := []condition.Condition{{Subject: "a route", Message: "a route is none of flanneld's"}}
		for n := range 6000 {
			all := foreign
			if n%2 == 1 {
				all = nil
			}
			set.Replace(condition.DeviceForeign, all)
			time.Sleep(100 * time.Millisecond)
		}
		lines := texts(log())
		if len(lines) < 20 || len(lines) > 70 {
			t.Errorf("%d lines", len(lines))
		}
		for i, l := range lines {
			if strings.Contains(l, "is over") != (i%2 == 1) {
				t.Fatalf("line %d is %s", i, l)
			}
		}
		for range 120 {
			set.Replace(condition.DeviceForeign, foreign)
			time.Sleep(time.Second)
		}
		if more := texts(log())[len(lines):]; len(more) != 1 || !strings.Contains(more[0], "none of flanneld's") {
			t.Errorf("while it stays: %q", more)
		}
		for range 3 { // peace has come
			set.Replace(condition.DeviceForeign, nil)
			time.Sleep(10 * time.Second)
			set.Replace(condition.DeviceForeign, foreign)
			time.Sleep(10 * time.Second)
		}
		if more := texts(log())[len(lines)+1:]; len(more) != 6 {
			t.Errorf("afterwards: %q", more)
		}
	})
}

func ignored(n int) condition.Condition {
	return condition.Condition{Code: condition.LeaseIgnored, Subject: fmt.Sprintf("subnets/172.7.%d.0-24", n), Message: fmt.Sprintf("ignoring the key %d", n)}
}

// TestTextsFromOutside: whatever etcd or another program says stays on one line, is
// bounded, and is the same condition at each pass.
func TestTextsFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := record(t)
		var set condition.Set
		for range 2 {
			set.Replace(condition.LeaseIgnored, []condition.Condition{
				{Subject: "subnets/a\n\x1b[", Message: `ignoring the key "subnets/a\n\x1b["`, Cause: strings.Repeat("long\n", 1000)},
			})
			time.Sleep(time.Second)
		}
		if lines := log(); len(lines) != 1 || strings.ContainsAny(lines[0].text, "\x1b") || len(lines[0].text) > 3000 {
			t.Errorf("lines %q", texts(lines))
		}
		if l := set.List(); len(l) != 1 || l[0].Subject != "subnets/a??[" || len(l[0].Cause) > 2003 {
			t.Errorf("conditions %v", l)
		}
	})
}

// TestReplace has a store full of garbage, of which some goes again.
// TestReplaceWithTheSameTwice: that is one condition, and no news at each pass.
func TestReplaceWithTheSameTwice(t *testing.T) {
	var s condition.Set
	all := []condition.Condition{{Subject: "a route", Message: "first"}, {Subject: "a route", Message: "second"}}
	s.Replace(condition.RouteShadowed, all)
	before := s.List()
	s.Replace(condition.RouteShadowed, all)
	if now := s.List(); len(now) != 1 || !now[0].Since.Equal(before[0].Since) || now[0].Message != before[0].Message {
		t.Errorf("first %v, then %v", before, now)
	}
}

func TestReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := record(t)
		var set condition.Set
		set.Set(condition.Condition{Code: condition.EtcdDegraded, Message: "etcd may have lost leases"})
		var all []condition.Condition
		for n := range 100 {
			all = append(all, ignored(n+100))
		}
		set.Replace(condition.LeaseIgnored, all)
		set.Replace(condition.LeaseIgnored, all)
		if lines := log(); len(lines) != 1+20+1 || lines[21].text != `"There are more conditions like these" condition="LeaseIgnored" count=80` {
			t.Errorf("lines %v", texts(lines))
		}
		time.Sleep(time.Minute)
		set.Replace(condition.LeaseIgnored, []condition.Condition{ignored(101), ignored(7)})
		lines := log()[22:]
		if len(lines) != 20+1+1 || lines[20].text != `"More conditions like these are over" condition="LeaseIgnored" count=79` ||
			lines[21].text != `"Ignoring the key 7" condition="LeaseIgnored" severity="warning" subject="subnets/172.7.7.0-24"` {
			t.Errorf("lines %v", texts(lines))
		}
		got := set.List()
		if len(got) != 3 || got[0].Code != condition.EtcdDegraded || got[1].Subject != "subnets/172.7.101.0-24" ||
			time.Since(got[1].Since) != time.Minute || time.Since(got[2].Since) != 0 {
			t.Errorf("conditions %+v", got)
		}
	})
}

func TestList(t *testing.T) {
	var set condition.Set
	for _, c := range []condition.Code{
		condition.NoLease, "OfALaterRelease", condition.EtcdNotCurrent, condition.EtcdUnwritable, condition.EtcdUnreadable, condition.LeaseIgnored,
	} {
		set.Set(condition.Condition{Code: c, Message: string(c)})
	}
	l := set.List()
	codes := func(l condition.List) (out []condition.Code) {
		for _, c := range l {
			out = append(out, c.Code)
		}
		return out
	}
	want := []condition.Code{condition.EtcdUnreadable, condition.EtcdUnwritable, condition.NoLease, condition.EtcdNotCurrent, condition.LeaseIgnored, "OfALaterRelease"}
	if diff := cmp.Diff(want, codes(l)); diff != "" {
		t.Errorf("order: %s", diff)
	}
	if diff := cmp.Diff([]condition.Code{condition.EtcdUnreadable, condition.LeaseIgnored, "OfALaterRelease"}, codes(l.Roots())); diff != "" {
		t.Errorf("roots: %s", diff)
	}
	if c, unready := l.Unready(); !unready || c.Code != condition.NoLease {
		t.Errorf("not ready by %+v", c)
	}
	if !l.Has(condition.Starting, condition.NoLease) || l.Has(condition.Starting) {
		t.Error("Has")
	}
	if _, found := l.Find(condition.Starting); found {
		t.Error("Find")
	}
	if _, unready := (condition.List{ignored(1)}).Unready(); unready {
		t.Error("a lease that is ignored keeps the daemon from being ready")
	}
}

// TestListInvariants: whatever the conditions, the roots explain the others, and
// a bounded list is short and says how many there are.
func TestListInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var set condition.Set
		for range rapid.IntRange(0, 40).Draw(t, "conditions") {
			code := rapid.SampledFrom(condition.Codes()).Draw(t, "code")
			set.Set(condition.Condition{Code: code, Subject: rapid.StringMatching("[a-c]").Draw(t, "subject"), Message: "m"})
		}
		l := set.List()
		roots := l.Roots()
		toExplain := func(c condition.Condition) bool { return c.Code != condition.Starting }
		if len(roots) == 0 && slices.ContainsFunc(l, toExplain) {
			t.Fatalf("nothing explains %v", l)
		}
		for _, c := range roots {
			if !l.Has(c.Code) || c.Severity == condition.Pending {
				t.Fatalf("%v is no condition", c)
			}
		}
		count := map[condition.Code]int{}
		for _, c := range l.Bound(2) {
			if count[c.Code]++; count[c.Code] > 3 {
				t.Fatalf("not bounded: %v", l.Bound(2))
			}
		}
		if len(count) > 0 && len(l.Bound(100)) != len(l) {
			t.Fatal("something is missing though there is room")
		}
	})
}

// TestManyOfACode sets thousands of conditions: few are kept, always the same ones,
// and the number of the others.
func TestManyOfACode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := record(t)
		var set condition.Set
		garbage := func(n int) (all []condition.Condition) {
			for i := range n {
				all = append(all, condition.Condition{Subject: fmt.Sprintf("%05d", i), Message: "m" + strings.Repeat("x", 100)})
			}
			rand.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
			return append(all, condition.More(7))
		}
		set.Replace(condition.LeaseIgnored, garbage(2000))
		first := len(log())
		if first > 25 {
			t.Errorf("%d lines", first)
		}
		for n := 2000; n < 2010; n++ {
			set.Replace(condition.LeaseIgnored, garbage(n))
			l := set.List()
			if len(l) != 101 || l[100].More != n-100+7 || l[100].Message != fmt.Sprintf("and %d more like these", n-100+7) || l[0].Subject != "00000" || l[99].Subject != "00099" {
				t.Fatalf("%d conditions, the last %+v", len(l), l[len(l)-1])
			}
			b := l.Bound(50)
			if len(b) != 51 || b[50].More != n-50+7 || b[50].Severity != condition.Warning || b[50].Since.IsZero() {
				t.Fatalf("%d conditions, the last %+v", len(b), b[len(b)-1])
			}
		}
		if more := len(log()) - first; more > 0 {
			t.Errorf("%d lines about their number", more)
		}
		set.Replace(condition.LeaseIgnored, nil)
		if l := set.List(); len(l) > 0 {
			t.Errorf("afterwards %v", l)
		}
	})
}

func TestJSON(t *testing.T) {
	c := condition.Condition{Code: condition.KernelNotApplied, Message: "cannot apply kernel state", Cause: "no", Denied: true, Since: time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC), Severity: condition.Error}
	text, err := json.Marshal(c)
	const want = `{"code":"KernelNotApplied","message":"cannot apply kernel state","cause":"no","denied":true,"since":"2026-03-04T12:00:00Z","severity":"error"}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

func TestDenied(t *testing.T) {
	for err, want := range map[error]bool{
		syscall.EPERM: true, syscall.EACCES: true, os.ErrPermission: true, syscall.ENOBUFS: false, os.ErrNotExist: false,
	} {
		if got := condition.Denied(fmt.Errorf("add a route: %w", err)); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}

// TestUnreadyIsTheRoot: where one thing that keeps the daemon from being ready explains
// another, it is the reason.
func TestUnreadyIsTheRoot(t *testing.T) {
	for want, codes := range map[condition.Code][]condition.Code{
		"":                           {condition.LeaseIgnored},
		condition.UnderlayDiverted:   {condition.EtcdUnreadable, condition.EtcdNotCurrent, condition.UnderlayDiverted, condition.Starting},
		condition.EtcdNotCurrent:     {condition.EtcdUnreadable, condition.EtcdNotCurrent, condition.Starting},
		condition.NoLease:            {condition.EtcdUnwritable, condition.NoLease, condition.Starting},
		condition.InterfaceMissing:   {condition.InterfaceMissing, condition.NoLease, condition.RouteConflict},
		condition.KernelNotApplied:   {condition.NoLease, condition.KernelNotApplied, condition.Starting},
		condition.FirewallNotApplied: {condition.FirewallNotApplied, condition.Starting},
	} {
		var l condition.List
		for _, c := range codes {
			l.Add(condition.Condition{Code: c})
		}
		if c, unready := l.Unready(); c.Code != want || unready != (want != "") {
			t.Errorf("%v: %t, %q, want %q", codes, unready, c.Code, want)
		}
	}
}

// TestNotesAreTheLogs: who asks to be told hears of a condition as often as the log, and of
// what follows from others nothing.
func TestNotesAreTheLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		set := &condition.Set{Note: func(text string) { got = append(got, text) }}
		down := condition.Condition{Code: condition.InterfaceDown, Subject: "ens33", Message: "ens33 is down", Cause: "no carrier"}
		set.Set(down)
		set.Set(down)
		set.Clear(down.Code, down.Subject)
		set.Track(condition.Condition{Code: condition.NoLease, Message: "no lease"}, true)
		retry := condition.NewRetry(set, condition.EtcdUnreadable, "read from etcd", time.Minute)
		for range 5 {
			time.Sleep(retry.Failed(syscall.ECONNREFUSED))
		}
		retry.Succeeded()
		var many []condition.Condition
		for i := range 30 {
			many = append(many, condition.Condition{Subject: fmt.Sprintf("%02d", i), Message: fmt.Sprintf("no way to %02d", i)})
		}
		set.Replace(condition.PeerUnreachable, many)
		want := []string{"ens33 is down: no carrier", "over: ens33 is down: no carrier", "cannot read from etcd: connection refused", "over: cannot read from etcd"}
		for i := range 20 {
			want = append(want, fmt.Sprintf("no way to %02d", i))
		}
		want = append(want, "There are more conditions like these: PeerUnreachable, 10")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
