package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"flanneld/internal/cli"
	"flanneld/pkg/admin"
	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
)

func (p *program) leaseCommand() *cobra.Command {
	const choice = "list, reserve or release"
	return newGroup(&cobra.Command{Use: "lease", Short: "the leases: " + choice}, choice,
		p.newCommand(&cobra.Command{
			Use:   "list",
			Short: "list all leases: who has which subnet, and until when",
			Example: `  # a table
  flanneld lease list
  # for a script
  flanneld lease list -o json`,
		}, func(c *call) []cli.Topic { return []cli.Topic{c.outputFlag(), etcdFlags(&c.options)} }, 0, listLeases),
		p.newCommand(&cobra.Command{
			Use:   "reserve [flags] SUBNET [SUBNET] PUBLIC-IP [PUBLIC-IP]",
			Short: "keep a subnet for one host, for ever",
			Long: `The host takes it at its next start, in place of another that it has leased. Where
it has leased the subnet already, the lease becomes the reservation, and nothing
else changes. A subnet of IPv4, one of IPv6, or both, each with the host's public
IP of that family, in any order: the slash tells subnets. Both are one reservation.`,
			Example: `  # for a host that is yet to come, or is there
  flanneld lease reserve 172.7.21.0/24 10.4.7.21
  # of both families
  flanneld lease reserve 172.7.22.0/24 10.4.7.22 fd00:7:0:22::/64 fd00:4::22`,
		}, onlyEtcdFlags, 4, withAdmin(reserveLease)),
		p.newCommand(&cobra.Command{
			Use:   "release [flags] SUBNET",
			Short: "take a reservation back, or with --now remove a lease",
			Long: `A reservation becomes a lease for a day, which its host renews, if there is one.
--now is for the lease of a host that is gone for good. A lease of both families is
named by either subnet, and goes as a whole. Where several keys in etcd name the
subnet, name one as "lease list" shows it, between quotes and without what stands
before the first digit.`,
			Example: `  # the host keeps it for as long as it lives
  flanneld lease release 172.7.21.0/24
  # another host may have it at once
  flanneld lease release --now 172.7.22.0/24`,
		}, releaseFlags, 1, withAdmin(releaseLease)),
	)
}

func releaseFlags(c *call) []cli.Topic {
	now := newFlag("now", "", "", "remove the lease", cli.Into(&c.now, cli.Bool))
	return []cli.Topic{newTopic("writing", now, c.yesFlag("do not ask")), etcdFlags(&c.options)}
}

func listLeases(ctx context.Context, c *call) error {
	s, err := fromStore(ctx, c.options)
	if err != nil {
		return err
	}
	for _, problem := range s.Conditions {
		fmt.Fprintf(c.stderr, "flanneld: %s\n", printable.Bounded(problem.Text(), printable.Longest))
	}
	if c.format == formatJSON {
		return c.printJSON(s.Peers)
	}
	return s.PrintLeases(c.stdout)
}

func reserveLease(ctx context.Context, c *call, a admin.Admin) error {
	var all []netip.Prefix
	var ips []netip.Addr
	for _, arg := range c.args {
		if strings.Contains(arg, "/") {
			p, err := asSubnet(arg)
			if err != nil {
				return err
			}
			all = append(all, p)
			continue
		}
		f := inet.IPv4
		if strings.Contains(arg, ":") {
			f = inet.IPv6
		}
		ip, err := cli.PublicIP(f)(arg)
		if err != nil || !ip.IsValid() {
			return cli.Exitf(cli.Usage,
				"%q must be the %v address at which other hosts reach the one that the subnet is for", arg, f)
		}
		ips = append(ips, ip)
	}
	if !paired(all, ips) {
		return cli.Exitf(cli.Usage, "flanneld lease reserve needs a subnet and a public IP, such as "+
			"172.7.21.0/24 10.4.7.21, or two of both, one of each family")
	}
	change, err := a.Reserve(ctx, subnet.SubnetsOf(all...), ips)
	if err != nil {
		return err
	}
	return c.carryOut(ctx, a, change)
}

// paired reports whether there are some, one of each family at most, and each subnet has its
// address.
func paired(subnets []netip.Prefix, ips []netip.Addr) bool {
	var of, at []inet.Family
	for _, p := range subnets {
		of = append(of, inet.Of(p.Addr()))
	}
	for _, ip := range ips {
		at = append(at, inet.Of(ip))
	}
	slices.Sort(of)
	slices.Sort(at)
	return len(of) > 0 && slices.Equal(of, at) && len(slices.Compact(of)) == len(at)
}

func releaseLease(ctx context.Context, c *call, a admin.Admin) error {
	if len(c.args) != 1 {
		return cli.Exitf(cli.Usage, "flanneld lease release needs a subnet, such as 172.7.21.0/24")
	}
	key := subnet.LeaseDir + "/" + c.args[0]
	subnets, err := subnet.ParseKey(key)
	p := subnets.First()
	if err != nil {
		key = ""
		p, err = asSubnet(c.args[0])
	}
	if err != nil {
		return err
	}
	change, err := a.Release(ctx, p, key, c.now)
	if err != nil {
		return err
	}
	return c.carryOut(ctx, a, change)
}

func asSubnet(arg string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(arg)
	if err != nil || p.Addr().Is4In6() {
		return p, cli.Exitf(cli.Usage, "%q must be a subnet such as 172.7.21.0/24", arg)
	}
	return p, nil
}
