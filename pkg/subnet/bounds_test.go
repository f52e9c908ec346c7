package subnet_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

var tooLong = strings.Repeat("x", 1_000_000)

const saysTooLong = "is 1000000 bytes long, more than the 16384 that are read"

func TestValuesAreBounded(t *testing.T) {
	now := time.Now()
	var s subnet.Snapshot
	for _, e := range []subnet.Entry{
		{Key: "config", Value: tooLong, Modified: 3},
		{Key: "subnets/172.7.21.0-24", Value: lease21, Modified: 4},
		{Key: "subnets/172.7.22.0-24", Value: tooLong, Modified: 5},
		{Key: "subnets/elsewhere", Value: tooLong, Modified: 6},
		{Key: "api", Value: strings.Repeat("x", subnet.LongestValue), Modified: 7},
	} {
		if err := s.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	for key, want := range map[string]int{"config": 1_000_000, "subnets/172.7.22.0-24": 1_000_000, "subnets/elsewhere": 1_000_000, "api": 0} {
		if e := s.Find(key); e.TooLong != want || (e.Value == "") != (want > 0) {
			t.Errorf("%s has %d bytes, and is too long with %d", key, len(e.Value), e.TooLong)
		}
	}
	c := s.Read(now)
	if _, err := c.Config.Text(); err == nil || err.Error() != saysTooLong {
		t.Errorf("config: %v", err)
	}
	if len(c.Leases) != 1 || c.Malformed["subnets/172.7.22.0-24"] != saysTooLong || len(c.Malformed) != 2 {
		t.Errorf("leases %v, malformed %v", c.Leases, c.Malformed)
	}
	for what, err := range map[string]error{
		"config": parse(subnet.ParseConfig(tooLong)), "lease": parse(subnet.ParseAttrs(tooLong)),
	} {
		if err == nil || err.Error() != saysTooLong {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, err := range []error{
		parse(subnet.ParseAttrs(`{"PublicIP":"` + tooLong[:10_000] + `"}`)), parse(subnet.ParseConfig(`{"Network":"` + tooLong[:10_000] + `"}`)),
	} {
		if err == nil || len(err.Error()) > 300 || !strings.Contains(err.Error(), `x"…`) {
			t.Errorf("error %v", err)
		}
	}
}

func parse[T any](_ T, err error) error { return err }

// TestKeysAreBounded lists a hundred thousand keys that mean nothing among some
// leases.
func TestKeysAreBounded(t *testing.T) {
	var s subnet.Snapshot
	for i := range 100_000 {
		for _, key := range []string{fmt.Sprintf("subnets/garbage-%d", i), fmt.Sprintf("a%d", i)} {
			if err := s.Add(subnet.Entry{Key: key, Value: "x"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, e := range []subnet.Entry{{Key: "subnets/" + tooLong}, {Key: "config", Value: "{}"}, {Key: "api", Value: "2"}, {Key: "subnets/172.7.21.0-24", Value: lease21}} {
		if err := s.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.Entries) != 1003 || s.Omitted != 199_001 || !s.Has("config") || !s.Has("api") || !s.Has("subnets/172.7.21.0-24") {
		t.Errorf("%d entries, %d omitted", len(s.Entries), s.Omitted)
	}
	if c := s.Read(time.Now()); c.Omitted != 199_001 || len(c.Leases) != 1 || len(c.Malformed) != 500 {
		t.Errorf("%d omitted, %d leases, %d malformed", c.Omitted, len(c.Leases), len(c.Malformed))
	}
}

// TestListIsBounded has more leases than there is room for.
func TestListIsBounded(t *testing.T) {
	var s subnet.Snapshot
	value := strings.Repeat("x", subnet.LongestValue)
	for i := range 10_000 {
		if err := s.Add(subnet.Entry{Key: fmt.Sprintf("subnets/10.%d.%d.0-24", i/250, i%250), Value: value}); err != nil {
			if i < 4000 || !strings.Contains(err.Error(), "more than 64 MiB of leases below the prefix") {
				t.Errorf("after %d: %v", i, err)
			}
			return
		}
	}
	t.Error("160 MB are taken")
}

// TestGarbageArrives has a watch bring what a list would bound.
func TestGarbageArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const config = `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`
		store := subnettest.NewStore()
		store.Set("config", config, 0)
		store.Set("subnets/172.7.22.0-24", lease22, time.Hour)
		h := start(t, store, claim("10.4.7.21"))
		defer h.stop()
		settle()
		for i := range 3000 {
			store.Set(fmt.Sprintf("subnets/garbage-%d", i), "x", 0)
			if i%20 == 0 {
				settle()
			}
		}
		store.Set("subnets/172.7.22.0-24", tooLong, 0)
		store.Set("config", tooLong, 0)
		settle()
		v := h.View()
		if len(v.Malformed) != 1001 || v.Omitted != 2000 || v.Malformed["subnets/172.7.22.0-24"] != saysTooLong {
			t.Errorf("%d malformed, %d omitted", len(v.Malformed), v.Omitted)
		}
		if v.Config != "" || v.ConfigTooLong != 1_000_000 || !v.Own.Subnet.IsValid() {
			t.Errorf("config of %d bytes, %d too long; own %v", len(v.Config), v.ConfigTooLong, v.Own)
		}
		for i := range 3000 {
			store.Remove(fmt.Sprintf("subnets/garbage-%d", i))
			if i%20 == 0 {
				settle()
			}
		}
		store.Set("config", config, 0)
		settle()
		if v := h.View(); len(v.Malformed) != 1 || v.Omitted != 0 || v.ConfigTooLong != 0 || v.Config != config {
			t.Errorf("afterwards: %d malformed, %d omitted, config %q", len(v.Malformed), v.Omitted, v.Config)
		}
	})
}
