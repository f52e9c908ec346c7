package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	"flanneld/pkg/admin"
)

func leaseVerbs() []verb {
	etcd := func(o *verbOptions) topic { return etcdTopic(&o.options) }
	return []verb{
		{
			name:    "lease list",
			summary: "list all leases: who has which subnet, and until when",
			examples: []example{
				{"flanneld lease list", "a table"},
				{"flanneld lease list -o json", "for a script"},
			},
			topics: func(o *verbOptions) []topic { return []topic{{"output", []entry{outputFlag(o)}}, etcd(o)} },
			run:    listLeases,
		},
		{
			name:    "lease reserve",
			args:    "SUBNET PUBLIC-IP",
			summary: "keep a subnet for one host, for ever",
			text: `The host takes it at its first start. Where it has leased the subnet already, the
lease becomes the reservation, and nothing else changes.`,
			examples: []example{
				{"flanneld lease reserve 172.7.21.0/24 10.4.7.21", "for a host that is yet to come, or is there"},
				{"flanneld lease reserve 172.7.22.0/24 10.4.7.22 --etcd-endpoints=http://10.4.7.12:2379", "from another machine"},
			},
			topics: func(o *verbOptions) []topic { return []topic{etcd(o)} },
			most:   2,
			run:    withAdmin(reserveLease),
		},
		{
			name:    "lease release",
			args:    "SUBNET",
			summary: "take a reservation back, or with --now remove a lease",
			text: `A reservation becomes a lease for a day, which its host renews, if there is one.
--now is for the lease of a host that is gone for good.`,
			examples: []example{
				{"flanneld lease release 172.7.21.0/24", "the host keeps it for as long as it lives"},
				{"flanneld lease release --now 172.7.22.0/24", "another host may have it at once"},
			},
			topics: func(o *verbOptions) []topic {
				return []topic{{"writing", []entry{
					{"now", "", "", "remove the lease", into(&o.now, boolean)}, yesFlag(o),
				}}, etcd(o)}
			},
			most: 1,
			run:  withAdmin(releaseLease),
		},
	}
}

func listLeases(ctx context.Context, c *call) error {
	s, err := fromStore(ctx, c.options)
	if err != nil {
		return err
	}
	for _, problem := range s.Conditions {
		fmt.Fprintf(c.stderr, "flanneld: %q\n", problem.Text())
	}
	if c.format == "json" {
		e := json.NewEncoder(c.stdout)
		e.SetIndent("", "  ")
		return e.Encode(s.Peers)
	}
	return s.PrintLeases(c.stdout)
}

func reserveLease(ctx context.Context, c *call, a admin.Admin) error {
	if len(c.args) != 2 {
		return exitf(exitUsage, "flanneld lease reserve needs a subnet and a public IP, such as 172.7.21.0/24 10.4.7.21")
	}
	p, err := c.subnet()
	if err != nil {
		return err
	}
	ip, err := publicIP(c.args[1])
	if err != nil || !ip.IsValid() {
		return exitf(exitUsage, "%q must be the IPv4 address at which other hosts reach the one that the subnet is for", c.args[1])
	}
	change, err := a.Reserve(ctx, p, ip)
	if err != nil {
		return err
	}
	return c.carryOut(ctx, a, change)
}

func releaseLease(ctx context.Context, c *call, a admin.Admin) error {
	if len(c.args) != 1 {
		return exitf(exitUsage, "flanneld lease release needs a subnet, such as 172.7.21.0/24")
	}
	p, err := c.subnet()
	if err != nil {
		return err
	}
	change, err := a.Release(ctx, p, c.now)
	if err != nil {
		return err
	}
	return c.carryOut(ctx, a, change)
}

// subnet is the first argument.
func (c *call) subnet() (netip.Prefix, error) {
	p, err := netip.ParsePrefix(c.args[0])
	if err != nil || !p.Addr().Is4() {
		return p, exitf(exitUsage, "%q must be a subnet such as 172.7.21.0/24", c.args[0])
	}
	return p, nil
}
