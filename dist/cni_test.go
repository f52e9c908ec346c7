package dist_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ofFamilies has the ranges and routes of as many families as there are subnets.
func ofFamilies(conf string, subnets ...string) string {
	var ranges, routes []string
	for _, s := range subnets {
		ranges = append(ranges, `[{"subnet": "`+s+`"}]`)
		routes = append(routes, map[bool]string{false: `{"dst": "0.0.0.0/0"}`, true: `{"dst": "::/0"}`}[strings.Contains(s, ":")])
	}
	conf = strings.Replace(conf, `[[{"subnet": "%s"}]]`, "["+strings.Join(ranges, ", ")+"]", 1)
	return strings.Replace(conf, `[{"dst": "0.0.0.0/0"}]`, "["+strings.Join(routes, ", ")+"]", 1)
}

// cniConf is mk-cni-conf.sh in a folder of its own, under one shell.
func cniConf(t *testing.T, shell []string, content string, args ...string) (dir string, r result) {
	dir = t.TempDir()
	write(t, filepath.Join(dir, "subnet.env"), content, 0o644)
	command := append(append([]string{}, shell...), source(t, "mk-cni-conf.sh"), "-f", "subnet.env", "-d", "out.conflist")
	return dir, run(t, dir, nil, append(command, args...)...)
}

const conflist = `{
  "cniVersion": "0.4.0",
  "name": "%s",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "%s",
      "isGateway": true,
      "forceAddress": true,
      "hairpinMode": true,
      "ipMasq": %s,%s
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "%s"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {
      "type": "portmap",
      "capabilities": {"portMappings": true}
    }
  ]
}
`

func TestCNIConf(t *testing.T) {
	const mtu1500, mtu1430 = "\n      \"mtu\": 1500,", "\n      \"mtu\": 1430,"
	for name, tc := range map[string]struct {
		content string
		args    []string
		want    string
	}{
		"as flanneld writes it": {subnetEnv("false"), nil, fmt.Sprintf(conflist, "flannel", "cni0", "true", mtu1500, "172.7.21.0/24")},
		"--ip-masq":             {subnetEnv("true"), nil, fmt.Sprintf(conflist, "flannel", "cni0", "false", mtu1500, "172.7.21.0/24")},
		"names":                 {subnetEnv("true"), []string{"-n", "office.net_1", "-b", "br-office"}, fmt.Sprintf(conflist, "office.net_1", "br-office", "false", mtu1500, "172.7.21.0/24")},
		"no more than a subnet": {"FLANNEL_SUBNET=172.7.21.1/24\n", nil, fmt.Sprintf(conflist, "flannel", "cni0", "true", "", "172.7.21.0/24")},
		"a narrow subnet":       {"FLANNEL_SUBNET=172.7.21.97/27\n", nil, fmt.Sprintf(conflist, "flannel", "cni0", "true", "", "172.7.21.96/27")},
		"the narrowest":         {"FLANNEL_SUBNET=255.255.255.253/30\n", nil, fmt.Sprintf(conflist, "flannel", "cni0", "true", "", "255.255.255.252/30")},
		"a wide subnet":         {"FLANNEL_SUBNET=10.243.129.1/9\n", nil, fmt.Sprintf(conflist, "flannel", "cni0", "true", "", "10.128.0.0/9")},
		"both families":         {dual, nil, fmt.Sprintf(ofFamilies(conflist, "172.7.21.0/24", "fc00:7:0:23::/64"), "flannel", "cni0", "true", mtu1430)},
		"IPv6 alone":            {sixOnly, nil, fmt.Sprintf(ofFamilies(conflist, "fc00:7:0:23::/64"), "flannel", "cni0", "true", mtu1430)},
		"narrow, and in full":   {"FLANNEL_IPV6_SUBNET=FC00:7:0:ffff:1:2:3:7d/125\n", nil, fmt.Sprintf(ofFamilies(conflist, "fc00:7:0:ffff:1:2:3:78/125"), "flannel", "cni0", "true", "")},
		"zeros in between":      {"FLANNEL_IPV6_SUBNET=fc00:7::10:f001/116\n", nil, fmt.Sprintf(ofFamilies(conflist, "fc00:7:0:0:0:0:10:f000/116"), "flannel", "cni0", "true", "")},
		"within a group":        {"FLANNEL_IPV6_SUBNET=fc00:7:ffff:1::/47\n", nil, fmt.Sprintf(ofFamilies(conflist, "fc00:7:fffe::/47"), "flannel", "cni0", "true", "")},
		"by another editor":     {"\ufeffexport FLANNEL_SUBNET=\"172.7.21.1/24\"\r\nFLANNEL_MTU='1500'\r\n", nil, fmt.Sprintf(conflist, "flannel", "cni0", "true", mtu1500, "172.7.21.0/24")},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				dir, r := cniConf(t, shell, tc.content, tc.args...)
				if r.code != 0 || r.stdout+r.stderr != "" {
					t.Fatalf("%+v", r)
				}
				got := read(t, filepath.Join(dir, "out.conflist"))
				if diff := cmp.Diff(tc.want, got); diff != "" || !json.Valid([]byte(got)) {
					t.Errorf("file (-want +got)\n%s", diff)
				}
				if left := names(t, dir); left != "out.conflist subnet.env" {
					t.Errorf("left behind: %s", left)
				}
				if info, err := os.Stat(filepath.Join(dir, "out.conflist")); err != nil || info.Mode() != 0o644 {
					t.Errorf("mode %v, %v", info.Mode(), err)
				}
			})
		})
	}
}

// Nothing but what it is for gets from the subnet file, or from the command line,
// into a file that runtimes read; and a file that is there stays.
func TestCNIConfRefuses(t *testing.T) {
	subnet := func(value string) string { return "FLANNEL_SUBNET=" + value + "\nFLANNEL_MTU=1500\n" }
	for name, tc := range map[string]struct {
		content, message string
		args             []string
	}{
		"empty":          {"", "no FLANNEL_SUBNET", nil},
		"command":        {subnet("$(touch x)"), "not an IPv4 subnet that holds a container: $(touch x)", nil},
		"end of quotes":  {subnet(`172.7.21.1/24"}, {"`), "not an IPv4 subnet", nil},
		"byte 256":       {subnet("172.7.21.256/24"), "not an IPv4 subnet", nil},
		"leading zero":   {subnet("172.07.21.1/24"), "not an IPv4 subnet", nil},
		"no container":   {subnet("172.7.21.1/31"), "not an IPv4 subnet that holds a container", nil},
		"IPv6 command":   {subnet("172.7.21.1/24") + "FLANNEL_IPV6_SUBNET=$(touch x)\n", "not an IPv6 subnet that holds a container: $(touch x)", nil},
		"nine groups":    {"FLANNEL_IPV6_SUBNET=1:2:3:4:5:6:7:8::/64\n", "not an IPv6 subnet", nil},
		"IPv6 too small": {"FLANNEL_IPV6_SUBNET=fc00::1/127\n", "not an IPv6 subnet that holds a container", nil},
		"MTU":            {"FLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=1500,\n", "not a number of bytes: 1500,", nil},
		"masq":           {subnetEnv("maybe"), "neither true nor false: maybe", nil},
		"name":           {subnetEnv("true"), `not a name of a network`, []string{"-n", `a"`}},
		"no name":        {subnetEnv("true"), `not a name of a network`, []string{"-n", ""}},
		"a path":         {subnetEnv("true"), `not a name of a network`, []string{"-n", "../x"}},
		"bridge":         {subnetEnv("true"), `not a name of an interface`, []string{"-b", "br 0"}},
		"a long bridge":  {subnetEnv("true"), `not a name of an interface`, []string{"-b", "sixteenletters-0"}},
		"no such file":   {subnetEnv("true"), `there is no nowhere: start flanneld first`, []string{"-f", "nowhere"}},
		"no such folder": {subnetEnv("true"), `cannot write nowhere/x`, []string{"-d", "nowhere/x"}},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				dir, r := cniConf(t, shell, tc.content, tc.args...)
				lines := strings.SplitAfter(strings.TrimSuffix(r.stderr, "\n"), "\n")
				if last := lines[len(lines)-1]; r.code != 1 || r.stdout != "" || !strings.Contains(last, tc.message) || !strings.HasPrefix(last, "mk-cni-conf.sh: ") || len(r.stderr) > 500 {
					t.Errorf("%+v, want %q", r, tc.message)
				}
				if left := names(t, dir); left != "subnet.env" {
					t.Errorf("left behind: %s", left)
				}
			})
		})
	}
}

func TestCNIConfArguments(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		for _, args := range [][]string{{"-h"}, {"-x"}, {"-f"}, {"more"}} {
			if _, r := cniConf(t, shell, subnetEnv("true"), args...); r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "usage: mk-cni-conf.sh [-f") {
				t.Errorf("%q: %+v", args, r)
			}
		}
		if dir, r := cniConf(t, shell, subnetEnv("true"), "-d", "/dev/stdout"); r.code != 0 || !json.Valid([]byte(r.stdout)) || names(t, dir) != "subnet.env" {
			t.Errorf("to /dev/stdout: %+v", r)
		}
	})
}
