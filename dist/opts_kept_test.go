package dist_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const noBIP = ": dockerd gets no --bip, and its containers no addresses of the cluster. Start flanneld first, or name its file by -f\n"

// TestOptsMissing: where flanneld has told nothing yet, or not all, what there is
// is written, and what is missing is said. flanneld and docker start all the same.
func TestOptsMissing(t *testing.T) {
	for name, tc := range map[string]struct {
		content string // "-": no file
		env     []string
		want    string
		said    string
	}{
		"no file":      {"-", nil, "DOCKER_OPTS=\"\"\n", "there is no subnet.env" + noBIP},
		"empty":        {"", nil, "DOCKER_OPTS=\"\"\n", "subnet.env has no FLANNEL_SUBNET" + noBIP},
		"no subnet":    {"FLANNEL_MTU=1450\n", nil, "DOCKER_OPT_MTU=\"--mtu=1450\"\nDOCKER_OPTS=\" --mtu=1450\"\n", "subnet.env has no FLANNEL_SUBNET" + noBIP},
		"empty subnet": {"FLANNEL_SUBNET=# none\n", []string{"DOCKER_OPTS=-D"}, "DOCKER_OPTS=\"-D\"\n", "subnet.env has no FLANNEL_SUBNET" + noBIP},
		"no file, but variables": {"-", []string{"FLANNEL_SUBNET=172.7.21.1/24", "FLANNEL_MTU=1450", "FLANNEL_IPMASQ=true"},
			"DOCKER_OPT_BIP=\"--bip=172.7.21.1/24\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=false\"\nDOCKER_OPT_MTU=\"--mtu=1450\"\n" +
				"DOCKER_OPTS=\" --bip=172.7.21.1/24 --ip-masq=false --mtu=1450\"\n", ""},
		"the file before variables": {"FLANNEL_SUBNET=172.7.21.1/24\n", []string{"FLANNEL_SUBNET=10.9.9.1/24", "FLANNEL_MTU=1450"},
			"DOCKER_OPT_BIP=\"--bip=172.7.21.1/24\"\nDOCKER_OPT_MTU=\"--mtu=1450\"\nDOCKER_OPTS=\" --bip=172.7.21.1/24 --mtu=1450\"\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				o := newOpts(t, shell, tc.content)
				o.said = tc.said
				if o.noEnv = tc.content == "-"; o.noEnv {
					if err := os.Remove(filepath.Join(o.dir, "subnet.env")); err != nil {
						t.Fatal(err)
					}
				}
				o.writes(tc.want, tc.env)
			})
		})
	}
}

// Variables are checked as the file is: a second line is not let through.
func TestOptsRefusesVariables(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		for _, variable := range []string{"FLANNEL_SUBNET=172.7.21.1/24\n$(touch x)", "FLANNEL_MTU=1500\n\"; touch x", "FLANNEL_IPMASQ=true\nfalse"} {
			o := newOpts(t, shell, "")
			if r := o.run([]string{variable}); r.code != 1 || names(t, o.dir) != "subnet.env" {
				t.Errorf("%q: exit %d, %q, files %s", variable, r.code, r.stderr, names(t, o.dir))
			}
		}
	})
}

// TestOptsPassesOn: options that an administrator has put into the subnet file or the
// environment get to dockerd, as with flannel's script, and nothing of them is run.
func TestOptsPassesOn(t *testing.T) {
	const content = "FLANNEL_SUBNET=172.7.21.1/24\n"
	const bip = `DOCKER_OPT_BIP="--bip=172.7.21.1/24"` + "\n"
	for name, tc := range map[string]struct {
		content string
		env     []string
		flags   []string
		want    string
	}{
		"of the environment": {content, []string{"DOCKER_OPT_LOG=--log-driver=syslog", "DOCKER_OPT_DEBUG=-D"}, nil,
			bip + "DOCKER_OPT_DEBUG=\"-D\"\nDOCKER_OPT_LOG=\"--log-driver=syslog\"\nDOCKER_OPTS=\" --bip=172.7.21.1/24 -D --log-driver=syslog\"\n"},
		"of the file": {content + "export DOCKER_OPT_LOG=\"--log-driver=syslog\" # to the host\n", nil, []string{"-c"},
			"DOCKER_OPTS=\" --bip=172.7.21.1/24 --log-driver=syslog\"\n"},
		"the file before the environment": {content + "DOCKER_OPT_A='-a'\n", []string{"DOCKER_OPT_A=-b"}, []string{"-i"}, bip + "DOCKER_OPT_A=\"-a\"\n"},
		"flanneld's before both": {content + "DOCKER_OPT_BIP=--bip=10.9.9.1/24\n", []string{"DOCKER_OPT_BIP=--bip=10.8.8.1/24", "DOCKER_OPT_MTU=--mtu=1400"}, []string{"-i"},
			bip + "DOCKER_OPT_MTU=\"--mtu=1400\"\n"},
		"code": {content + `DOCKER_OPT_A="--a=\"\$(touch x)\" \\"` + "\n", []string{"DOCKER_OPT_B=`touch y`\n$(touch z)\""}, []string{"-i"},
			bip + `DOCKER_OPT_A="--a=\"\$(touch x)\" \\"` + "\nDOCKER_OPT_B=\"\\`touch y\\` \\$(touch z)\\\"\"\n"},
		"no options": {content + "DOCKER_OPT_=x\nDOCKER_OPT_A=\nXDOCKER_OPT_A=x\n#DOCKER_OPT_B=x\n", []string{"DOCKER_OPT_C=", "MY_DOCKER_OPT_A=x"}, []string{"-i"}, bip},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell []string) {
				newOpts(t, shell, tc.content).writes(tc.want, tc.env, tc.flags...)
			})
		})
	}
}

// TestOptsIntoTheSubnetFile: the CentOS packages have docker's options in flanneld's own
// file. Its lines stay, also when that is done again.
func TestOptsIntoTheSubnetFile(t *testing.T) {
	eachShell(t, func(t *testing.T, shell []string) {
		o := newOpts(t, shell, subnetEnv("false")+"DOCKER_OPT_LOG=-D\nMINE=1")
		want := subnetEnv("false") + "MINE=1\n" + `DOCKER_OPT_BIP="--bip=172.7.21.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=true"
DOCKER_OPT_MTU="--mtu=1500"
DOCKER_OPT_LOG="-D"
DOCKER_NETWORK_OPTIONS=" --bip=172.7.21.1/24 --ip-masq=true --mtu=1500 -D"
`
		for range 2 {
			if r := o.run(nil, "-k", "DOCKER_NETWORK_OPTIONS", "-d", "subnet.env"); r.code != 0 || r.stderr != "" {
				t.Fatalf("%+v", r)
			}
			if diff := cmp.Diff(want, read(t, filepath.Join(o.dir, "subnet.env"))); diff != "" {
				t.Fatalf("-want +got\n%s", diff)
			}
		}
	})
}
