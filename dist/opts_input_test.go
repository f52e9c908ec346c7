package dist_test

import (
	"strings"
	"testing"
)

// TestOptsReads: files as people write and damage them.
func TestOptsReads(t *testing.T) {
	const bip, mtu = `DOCKER_OPT_BIP="--bip=172.7.21.1/24"` + "\n", `DOCKER_OPT_MTU="--mtu=1450"` + "\n"
	const masq = `DOCKER_OPT_IPMASQ="--ip-masq=false"` + "\n"
	for name, tc := range map[string]struct{ content, want string }{
		"CRLF":                {"FLANNEL_SUBNET=172.7.21.1/24\r\nFLANNEL_MTU=1450\r\nFLANNEL_IPMASQ=true\r\n", bip + masq + mtu},
		"byte order mark":     {"\ufeffFLANNEL_SUBNET=172.7.21.1/24\n", bip},
		"quotes and export":   {"export FLANNEL_SUBNET=\"172.7.21.1/24\"\nFLANNEL_MTU='1450'\n", bip + mtu},
		"blanks":              {"  FLANNEL_SUBNET = 172.7.21.1/24 \t\n\n\tFLANNEL_MTU=1450  \n", bip + mtu},
		"no newline at end":   {"FLANNEL_MTU=1450\nFLANNEL_SUBNET=172.7.21.1/24", bip + mtu},
		"the last one counts": {"FLANNEL_SUBNET=10.0.0.1/24\nFLANNEL_SUBNET=172.7.21.1/24\n", bip},
		"empty values":        {"FLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=\nFLANNEL_IPMASQ=\"\"\n", bip},
		"comments and others": {"#FLANNEL_MTU=9\nXFLANNEL_MTU=9\nFLANNEL_MTU_=9\nBIP=$(touch x)\nFLANNEL_SUBNET=172.7.21.1/24\n", bip},
		"a long file":         {strings.Repeat("#"+strings.Repeat(" ", 100_000)+"\n", 20) + "FLANNEL_SUBNET=172.7.21.1/24\n", bip},
		"comments":            {"FLANNEL_SUBNET=172.7.21.1/24 # ours\nFLANNEL_MTU=\"1450\"\t# bytes\nFLANNEL_IPMASQ='true' # it's $(touch x)\n", bip + masq + mtu},
		"two subnets":         {"FLANNEL_SUBNET=172.7.21.1/24,172.7.22.1/24\n", bip},
		"two subnets, quoted": {"FLANNEL_SUBNET=\"172.7.21.1/24,$(touch x)\"\n", bip},
		"zero bytes":          {"FLANNEL_SUBNET=172.7.21.1/24\x00\n", bip},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				newOpts(t, shell, tc.content).writes(tc.want, nil, "-i")
			})
		})
	}
}

// TestOptsRefuses: nothing but addresses, numbers and true or false gets from
// the subnet file into a file that systemd and shells read.
func TestOptsRefuses(t *testing.T) {
	subnet := func(value string) string { return "FLANNEL_SUBNET=" + value + "\nFLANNEL_MTU=1500\n" }
	mtu := func(value string) string { return "FLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=" + value + "\n" }
	for name, tc := range map[string]struct{ content, message string }{
		"command":              {subnet("$(touch x)"), "not an IPv4 subnet: $(touch x)"},
		"command behind":       {subnet("172.7.21.1/24$(touch x)"), "not an IPv4 subnet"},
		"backquotes":           {subnet("`touch x`"), "not an IPv4 subnet"},
		"end of quotes":        {subnet(`172.7.21.1/24" --privileged "`), "not an IPv4 subnet"},
		"inner quote":          {subnet(`"172.7.21.1/24"; touch x "`), "not an IPv4 subnet"},
		"second command":       {subnet("172.7.21.1/24; touch x"), "not an IPv4 subnet"},
		"second option":        {subnet("172.7.21.1/24 --userns-remap="), "not an IPv4 subnet"},
		"variable":             {subnet("$HOME"), "not an IPv4 subnet"},
		"pattern":              {subnet("*"), "not an IPv4 subnet"},
		"no length":            {subnet("172.7.21.1"), "not an IPv4 subnet"},
		"length 33":            {subnet("172.7.21.1/33"), "not an IPv4 subnet"},
		"byte 256":             {subnet("172.7.21.256/24"), "not an IPv4 subnet"},
		"five bytes":           {subnet("1.172.7.21.1/24"), "not an IPv4 subnet"},
		"long":                 {subnet(strings.Repeat("1", 1_000_000)), "not an IPv4 subnet: 111"},
		"control characters":   {subnet("\x1b]0;title\x07"), "not an IPv4 subnet: ]0;title\n"},
		"MTU command":          {mtu("$(touch x)"), "not a number of bytes: $(touch x)"},
		"MTU with blank":       {mtu("1500 --debug"), "not a number of bytes"},
		"MTU negative":         {mtu("-1"), "not a number of bytes"},
		"MTU zero":             {mtu("0"), "not a number of bytes"},
		"MTU comment":          {mtu("1500# bytes"), "not a number of bytes"},
		"command after comma":  {subnet("$(touch x),172.7.21.1/24"), "not an IPv4 subnet: $(touch x)"},
		"command in comment":   {subnet(`"172.7.21.1/24$(touch x)" # 172.7.21.1/24`), "not an IPv4 subnet"},
		"masq maybe":           {subnetEnv("maybe"), "FLANNEL_IPMASQ in subnet.env is neither true nor false: maybe"},
		"masq TRUE":            {subnetEnv("TRUE"), "neither true nor false"},
		"masq command":         {subnetEnv("true;touch x"), "neither true nor false"},
		"masq in a later line": {subnetEnv("true\nFLANNEL_IPMASQ=$(touch x)"), "neither true nor false"},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				newOpts(t, shell, tc.content).fails(tc.message)
			})
		})
	}
}
