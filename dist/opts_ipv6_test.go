package dist_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	ofIPv6  = "FLANNEL_IPV6_NETWORK=fc00:7::/48\nFLANNEL_IPV6_SUBNET=fc00:7:0:23::1/64\n"
	ending  = "FLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n"
	dual    = "FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\n" + ofIPv6 + ending
	sixOnly = ofIPv6 + ending

	six       = " --ipv6=true --fixed-cidr-v6=fc00:7:0:23::1/64"
	ip6tables = " --experimental=true --ip6tables=true"
)

// What dockerds say of ip6tables, in as many lines.
const (
	ip6tables2010 = dockerd2010 + "      --experimental                            Enable experimental features\n" +
		"      --ip6tables                               Enable addition of\n                                                ip6tables rules\n" +
		"      --ipv6                                    Enable IPv6 networking (default true)\n"
	ip6tables29 = dockerd29 + "      --experimental                          Enable experimental features\n" +
		"      --ip6tables                             Enable addition of\n                                              ip6tables rules (default true)\n"
)

// TestOptsOfIPv6: the second subnet gets to each dockerd with what that needs for it.
func TestOptsOfIPv6(t *testing.T) {
	const v4 = " --bip=172.7.21.1/24 --ip-masq=true --mtu=1430"
	at := func(file, content string) map[string]string { return map[string]string{file: content} }
	for name, tc := range map[string]struct {
		content string
		dockerd string // "": none
		files   map[string]string
		present string // in DOCKER_OPTS
		flags   string
		want    string
		said    string
	}{
		"20.10":                {content: dual, dockerd: ip6tables2010, want: v4 + six + ip6tables},
		"29":                   {content: dual, dockerd: ip6tables29, want: v4 + six},
		"29 by nftables":       {content: dual, dockerd: ip6tables29, files: at(daemonJSON, nftables), want: v4 + six + direct + mark},
		"19.03":                {content: dual, dockerd: dockerd2010, want: v4 + six},
		"none":                 {content: dual, want: v4 + six},
		"one that fails":       {content: dual, dockerd: fails, want: v4 + six, said: "`dockerd --help` does not list its options\n"},
		"-m":                   {content: dual, dockerd: ip6tables29, flags: "-m", want: " --bip=172.7.21.1/24 --mtu=1430" + six},
		"IPv6 alone":           {content: sixOnly, dockerd: ip6tables2010, want: " --ip-masq=true --mtu=1430" + six + ip6tables},
		"IPv4 alone":           {content: strings.Replace(dual, ofIPv6, "", 1), dockerd: ip6tables2010, want: v4},
		"several":              {content: "FLANNEL_IPV6_SUBNET='fc00:7:0:23::1/64,fc00:7:0:24::1/64'\n", dockerd: ip6tables29, want: six},
		"by another editor":    {content: "export FLANNEL_IPV6_SUBNET = \"fc00:7:0:23::1/64\" # ours\r\n", dockerd: ip6tables29, want: six},
		"experimental already": {content: dual, dockerd: ip6tables2010, files: at(daemonJSON, `{"experimental": true}`), want: v4 + six + " --ip6tables=true"},
		"by the variable":      {content: dual, dockerd: ip6tables2010, present: "--experimental", want: "--experimental" + v4 + six + " --ip6tables=true"},
		"no experiments": {content: dual, dockerd: ip6tables2010, files: at(daemonJSON, `{"experimental": false}`), want: v4 + six,
			said: "--ip6tables=true is left out, as dockerd's \"experimental\" is false: set it to true\n"},
		"ip6tables decided": {content: dual, dockerd: ip6tables2010, files: at(daemonJSON, `{"ip6tables": false}`), want: v4 + six},
		"and by a flag":     {content: dual, dockerd: ip6tables2010, present: "--ip6tables=false", want: "--ip6tables=false" + v4 + six},
		"ipv6 in daemon.json": {content: dual, dockerd: ip6tables29, files: at(daemonJSON, `{"ipv6": true, "fixed-cidr-v6": "fc00:7:0:23::1/64"}`), want: v4,
			said: "--ipv6=true is left out, as /etc/docker/daemon.json has \"ipv6\": remove it there\n" +
				"--fixed-cidr-v6=fc00:7:0:23::1/64 is left out, as /etc/docker/daemon.json has \"fixed-cidr-v6\": remove it there\n"},
		"another subnet there": {content: dual, dockerd: ip6tables29, files: at(daemonJSON, `{"fixed-cidr-v6": "2001:db8::/64"}`), want: v4 + six,
			said: "dockerd will not start: remove \"fixed-cidr-v6\" from /etc/docker/daemon.json, as it is not fc00:7:0:23::1/64\n"},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				o := newOpts(t, shell, tc.content)
				o.said = tc.said
				o.dockerdIs(tc.dockerd)
				for file, content := range tc.files {
					write(t, filepath.Join(o.host, file), content, 0o644)
				}
				args := []string{"-c"}
				if tc.flags != "" {
					args = append(args, tc.flags)
				}
				o.writes("DOCKER_OPTS=\""+tc.want+"\"\n", []string{"DOCKER_OPTS=" + tc.present}, args...)
			})
		})
	}
}

// dockerdIs puts one into the host's PATH, none if it is "".
func (o *opts) dockerdIs(script string) {
	o.t.Helper()
	file := filepath.Join(o.host, "bin", "dockerd")
	if script != "" {
		write(o.t, file, script, 0o755)
	} else if err := os.Remove(file); err != nil {
		o.t.Fatal(err)
	}
}

func TestOptsOfIPv6OneByOne(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		o := newOpts(t, shell, dual)
		o.dockerdIs(ip6tables2010)
		o.writes(`DOCKER_OPT_BIP="--bip=172.7.21.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=true"
DOCKER_OPT_MTU="--mtu=1430"
DOCKER_OPT_IPV6="--ipv6=true"
DOCKER_OPT_FIXED_CIDR_V6="--fixed-cidr-v6=fc00:7:0:23::1/64"
DOCKER_OPT_EXPERIMENTAL="--experimental=true"
DOCKER_OPT_IP6TABLES="--ip6tables=true"
`, nil, "-i")
	})
}

// TestOptsOfIPv6AreTaken: every way to write an IPv6 subnet, and nothing else.
func TestOptsOfIPv6AreTaken(t *testing.T) {
	long := strings.Repeat("fc00:", 7) + "1"
	taken := []string{"fc00::/7", "::1/128", "fc00:7:0:23::1/64", "FC00:7::A/126", long + "/112", "1:2:3:4:5:6:7::/112", "::2:3:4:5:6:7:8/112", "1:2::7:8/99"}
	refused := []string{"::/0", "fc00:7:0:23::1", "fc00:7:0:23::1/129", "fc00:7:0:23::1/064", "fc00:7:0:23:1/64", "1::2::3/64", long + ":1/64", "1:2:3:4::5:6:7:8/64", ":1:2/64", "fc00:::1/64",
		"12345::/64", "fe80::1%eth0/64", "172.7.21.1/24", "::ffff:172.7.21.1/120", "g::/64", "$(touch x)", "fc00::1/64 --debug", `fc00::1/64"`, strings.Repeat("1", 100_000)}
	eachShell(t, func(t *testing.T, shell []string) {
		for _, subnet := range taken {
			newOpts(t, shell, "FLANNEL_IPV6_SUBNET="+subnet+"\n").writes("DOCKER_OPT_IPV6=\"--ipv6=true\"\nDOCKER_OPT_FIXED_CIDR_V6=\"--fixed-cidr-v6="+subnet+"\"\n", nil, "-i")
		}
		for _, subnet := range refused {
			newOpts(t, shell, "FLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_IPV6_SUBNET="+subnet+"\n").fails("FLANNEL_IPV6_SUBNET in subnet.env is not an IPv6 subnet: " + subnet[:min(len(subnet), 9)])
		}
	})
}

// TestOptsOfIPv6InTheSubnetFile: in flanneld's own file they come, stay and go with the
// subnet, and what of an administrator is there stays.
func TestOptsOfIPv6InTheSubnetFile(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		o := newOpts(t, shell, "")
		o.dockerdIs(ip6tables2010)
		file := filepath.Join(o.dir, "subnet.env")
		const v4, ours = "DOCKER_OPT_BIP=\"--bip=172.7.21.1/24\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=true\"\nDOCKER_OPT_MTU=\"--mtu=1430\"\n",
			"DOCKER_OPT_IPV6=\"--ipv6=true\"\nDOCKER_OPT_FIXED_CIDR_V6=\"--fixed-cidr-v6=fc00:7:0:23::1/64\"\nDOCKER_OPT_EXPERIMENTAL=\"--experimental=true\"\nDOCKER_OPT_IP6TABLES=\"--ip6tables=true\"\n"
		four, noBIP := strings.Replace(dual, ofIPv6, "", 1), strings.SplitAfter(v4, "\n")
		kept := ""
		for _, step := range []struct{ flanneld, want string }{
			{four, v4}, {dual, v4 + ours}, {dual, v4 + ours}, {sixOnly, noBIP[1] + noBIP[2] + ours}, {dual, v4 + ours}, {four, v4}, {four + "MINE=1\n", v4},
		} {
			write(t, file, step.flanneld+kept, 0o644)
			if r := o.run(nil, "-i", "-d", "subnet.env"); r.code != 0 || r.stderr != "" {
				t.Fatalf("%+v", r)
			}
			if diff := cmp.Diff(step.flanneld+step.want, read(t, file)); diff != "" {
				t.Fatalf("-want +got\n%s", diff)
			}
			kept = step.want
		}
		// One who has IPv6 of his own beside flanneld's IPv4.
		write(t, file, four+"DOCKER_OPT_IPV6=--ipv6\n", 0o644)
		if r := o.run(nil, "-i", "-d", "subnet.env"); r.code != 0 || !strings.HasSuffix(read(t, file), v4+"DOCKER_OPT_IPV6=\"--ipv6\"\n") {
			t.Errorf("%+v\n%s", r, read(t, file))
		}
	})
}
