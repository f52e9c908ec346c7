package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"flanneld/internal/lab"
)

// TestCommandsWithoutSlash writes one prefix with a slash in front and without, in
// commands that come one after the other: they are about the same keys.
func TestCommandsWithoutSlash(t *testing.T) {
	t.Parallel()
	const bare, slashed = "test-cluster/network", "/test-cluster/network"
	const config = `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	for _, tt := range []struct {
		prefix, args string
		says         string
		v2, v3       string // where the config key and the lease are then
		do           func()
	}{
		{prefix: bare, args: "config set --etcd-api=3 " + config, v3: bare},
		{prefix: bare, args: "config get", says: config, v3: bare},
		{prefix: slashed, args: "config get", says: config, v3: bare},
		{prefix: slashed, args: "lease reserve 172.7.21.0/24 10.4.7.21", v3: bare},
		{prefix: bare, args: "lease list", says: "172.7.21.0/24", v3: bare},
		{prefix: slashed, args: "status -o json", says: `"prefix": "` + bare + `"`, v3: bare},
		{prefix: bare, args: "migrate --from=3 --to=2 --yes", v2: slashed, v3: bare},
		{prefix: bare, args: "config get", says: config, v2: slashed, do: func() { etcd.API(3).Delete(bare) }},
		{prefix: slashed, args: "migrate --from=2 --to=3 --yes", v2: slashed, v3: slashed},
		{prefix: bare, args: "lease list", says: "172.7.21.0/24", v3: slashed, do: func() { etcd.API(2).Delete(slashed) }},
		{
			prefix: bare, args: "lease release --now --yes 172.7.23.0/24", says: " " + slashed + "/subnets/172.7.23.0-24 is removed", v3: slashed,
			do: func() { etcd.API(3).Set(slashed+"/subnets/172.7.23.0-24", "none") },
		},
	} {
		if tt.do != nil {
			tt.do()
		}
		out, err := runOn(t, etcd, append(strings.Fields(tt.args), "--etcd-prefix="+tt.prefix)...)
		if err != nil || !strings.Contains(out, tt.says) {
			t.Errorf("%s with %s: %v\n%s", tt.args, tt.prefix, err, out)
		}
		for api, where := range map[int]string{2: tt.v2, 3: tt.v3} {
			keys := slices.Collect(maps.Keys(etcd.API(api).Keys("/")))
			if api == 3 {
				keys = slices.AppendSeq(keys, maps.Keys(etcd.API(api).Keys("test-cluster")))
			}
			elsewhere := slices.ContainsFunc(keys, func(k string) bool { return !strings.HasPrefix(k, where+"/") })
			if slices.Contains(keys, where+"/config") != (where != "") || elsewhere {
				t.Errorf("%s with %s: v%d has %q, want all in %q", tt.args, tt.prefix, api, keys, where)
			}
		}
	}
}
