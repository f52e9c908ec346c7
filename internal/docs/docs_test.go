package docs

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// pages are all that readers see.
func pages(t *testing.T) (all []*Page) {
	t.Helper()
	var names []string
	for _, dir := range []string{".", "docs"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(file string, d fs.DirEntry, err error) error {
			name, _ := filepath.Rel(root, file)
			if d.IsDir() && dir == "." && name != "." {
				return fs.SkipDir
			}
			if filepath.Ext(name) == ".md" {
				names = append(names, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		p, err := Read(root, name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// Every link leads somewhere, and every page is reached from README.md.
func TestLinks(t *testing.T) {
	all := map[string]*Page{}
	for _, p := range pages(t) {
		all[p.Name] = p
	}
	reached, next := map[string]bool{"README.md": true}, []string{"README.md"}
	for len(next) > 0 {
		p := all[next[0]]
		next = next[1:]
		for _, l := range p.Links {
			if strings.Contains(l.Target, "://") || strings.HasPrefix(l.Target, "mailto:") {
				continue
			}
			file, id, _ := strings.Cut(l.Target, "#")
			target := p.Name
			if file != "" {
				target = path.Join(path.Dir(p.Name), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s:%d: there is no %s", p.Name, l.Line, target)
				continue
			}
			to, isPage := all[target]
			if id != "" && (!isPage || !slices.ContainsFunc(to.Headings, func(h Heading) bool { return h.ID == id })) {
				t.Errorf("%s:%d: %s has no heading #%s", p.Name, l.Line, target, id)
			}
			if isPage && !reached[target] {
				reached[target], next = true, append(next, target)
			}
		}
	}
	for name := range all {
		if !reached[name] {
			t.Errorf("no link leads to %s", name)
		}
	}
}

// taken finds what tests take from pages: docs.Blocks(t, "docs/docker.md") or
// docs.Containing(t, "docs/cni.md", "podman network create").
var taken = regexp.MustCompile(`docs\.(?:Blocks|Containing)\(\w+, "([^"]+)"(?:, "((?:[^"\\]|\\.)*)")?\)`)

// Every command that readers are told to type is run by a test, or the page's source
// says why none can. What is in a block is one of few languages, so that readers see colours.
func TestCommandsAreRun(t *testing.T) {
	run := map[string][]string{} // by page: what its blocks contain that tests run
	tests, err := filepath.Glob(filepath.Join(root, "internal/*/*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tests {
		if strings.Contains(file, "/docs/") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range taken.FindAllStringSubmatch(string(source), -1) {
			run[original(call[1])] = append(run[original(call[1])], strings.ReplaceAll(call[2], `\"`, `"`))
		}
	}
	languages := []string{"sh", "console", "text", "ini", "json", "yaml", "sql", "go"}
	for _, p := range pages(t) {
		for _, b := range p.Blocks {
			if !slices.Contains(languages, b.Lang) {
				t.Errorf("%s:%d: a block of %q: say one of %s", p.Name, b.Line, b.Lang, strings.Join(languages, ", "))
			}
			if script := b.Notes["run by"]; script != "" {
				runsSteps(t, p, b, script)
				continue
			}
			why, excused := b.Notes["not run"]
			ran := byNobody
			for _, text := range run[original(p.Name)] {
				if text == "" {
					ran = max(ran, withAll)
				} else if strings.Contains(b.Text, text) {
					ran = byName
				}
			}
			switch {
			case excused && (ran == byName || !b.Runs()):
				t.Errorf("%s:%d: a test runs it, or nobody would: take the note \"not run\" away", p.Name, b.Line)
			case excused && len(why) < 12:
				t.Errorf("%s:%d: say why no test can run it", p.Name, b.Line)
			case !excused && b.Runs() && ran == byNobody && p.Name != "docs/cli.md": // TestExamples of the commands
				t.Errorf("%s:%d: no test runs it, and no note says why:\n%s", p.Name, b.Line, b.Text)
			}
		}
	}
	for name, texts := range run {
		p, err := Read(root, name)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, text := range texts {
			if !slices.ContainsFunc(p.Blocks, func(b Block) bool { return strings.Contains(b.Text, text) }) {
				t.Errorf("%s has no block with %q, which a test takes from it", name, text)
			}
		}
	}
}

// How a test takes a block from its page.
const (
	byNobody = iota
	withAll  // which the test plays from the beginning to the end, but for what the notes except
	byName
)

// runsSteps: of a block that a script runs, each line is "make" and a word in the script.
func runsSteps(t *testing.T, p *Page, b Block, script string) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root, script))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.Text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "make" || !slices.Contains(strings.Fields(strings.ReplaceAll(string(source), ";", " ")), f[1]) {
			t.Errorf("%s:%d: %s does not run %s", p.Name, b.Line, script, line)
		}
	}
}

// original is the English page that a page is a translation of, or itself.
func original(name string) string {
	if name == "README.zh-CN.md" {
		return "README.md"
	}
	return strings.Replace(name, "docs/zh/", "docs/", 1)
}

// A translation has the chapters, the commands and the files of its original.
func TestTranslations(t *testing.T) {
	comment := regexp.MustCompile(`(?m)(^|[ \t]+)# .*$`)
	outline := func(p *Page) (levels []int, blocks []string) {
		for _, h := range p.Headings {
			levels = append(levels, h.Level)
		}
		for _, b := range p.Blocks {
			delete(b.Notes, "not run") // the reason may be translated
			blocks = append(blocks, fmt.Sprintln(b.Lang, b.Notes)+comment.ReplaceAllString(b.Text, ""))
		}
		return levels, blocks
	}
	for _, p := range pages(t) {
		if original(p.Name) == p.Name {
			continue
		}
		of, err := Read(root, original(p.Name))
		if err != nil {
			t.Error(err)
			continue
		}
		levels, blocks := outline(p)
		wantLevels, wantBlocks := outline(of)
		if diff := cmp.Diff(wantLevels, levels); diff != "" {
			t.Errorf("chapters of %s are not those of %s:\n%s", p.Name, of.Name, diff)
		}
		if diff := cmp.Diff(wantBlocks, blocks); diff != "" {
			t.Errorf("blocks of %s are not those of %s:\n%s", p.Name, of.Name, diff)
		}
	}
}

// TestVersions: pages install the version at the top of CHANGELOG.md, and the page about updates goes on to the next.
func TestVersions(t *testing.T) {
	changes, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	var major, minor, patch int
	top := regexp.MustCompile(`(?m)^## \S+`).Find(changes)
	if _, err := fmt.Sscanf(string(top), "## %d.%d.%d", &major, &minor, &patch); err != nil {
		t.Fatalf("CHANGELOG.md begins with %q: %v", top, err)
	}
	version, next := fmt.Sprintf("%d.%d.%d", major, minor, patch), fmt.Sprintf("%d.%d.0", major, minor+1)
	named := regexp.MustCompile(`(?:flanneld?[-_:]|flanneld {2,}|git tag v|VERSION=)(\d+\.\d+\.\d+)`)
	for _, p := range pages(t) {
		text, err := os.ReadFile(filepath.Join(root, p.Name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllSubmatch(text, -1) {
			if got := string(m[1]); got != version && (got != next || p.Name != "docs/operations.md") {
				t.Errorf("%s says %q, and the version is %s", p.Name, m[0], version)
			}
		}
	}
}

// others are flags of other programs that pages speak of.
var others = map[string]string{
	"--bip": "dockerd", "--mtu": "dockerd", "--allow-direct-routing": "dockerd", "--bridge-accept-fwmark": "dockerd",
	"--firewall-backend": "dockerd",
	"--rm":               "docker", "--network": "docker", "--subnet": "docker", "--gateway": "docker",
	"--enable-v2": "etcd", "--experimental-watch-progress-notify-interval": "etcd", "--listen-client-http-urls": "etcd", "--client-cert-auth": "etcd", "--max-concurrent-streams": "etcd",
	"--dport": "iptables", "--random-fully": "iptables", "--wait": "iptables", "--reject-with": "iptables",
	"--to-source": "iptables", "--comment": "iptables",
	"--permanent": "firewall-cmd", "--zone": "firewall-cmd", "--add-source": "firewall-cmd", "--reload": "firewall-cmd",
	"--check": "sha256sum", "--ignore-missing": "sha256sum", "--now": "systemctl", "--net": "unshare", "--format": "podman",
	"--prefix": "etcdctl", "--path": "etcdctl", "--roles": "etcdctl", "--user": "etcdctl", "--username": "etcdctl", "--readwrite": "etcdctl",
	"--name": "docker", "--device": "docker", "--cap-add": "podman", "--add-port": "firewall-cmd",
	"--read-only": "docker", "--cap-drop": "docker", "--security-opt": "docker", "--env-file": "docker", "--change": "docker",
	"--privileged": "docker", "--new": "podman",
	"--rebind": "dhcpcd", "--tags": "git",
	"--restart": "docker", "--tail": "docker", "--config-file": "dockerd", "--log-level": "dockerd",
	"--to-destination": "iptables",
	"--cert-file":      "etcd", "--key-file": "etcd", "--peer-cert-file": "etcd", "--peer-key-file": "etcd", "--trusted-ca-file": "etcd",
	"--peer-trusted-ca-file": "etcd", "--listen-client-urls": "etcd", "--advertise-client-urls": "etcd",
	"--endpoints": "etcdctl", "--ca-file": "etcdctl", "--cacert": "etcdctl", "--cert": "etcdctl", "--key": "etcdctl",
	"--system": "sysctl", "--force-confold": "dpkg", "--oldpackage": "rpm", "--ipv6": "dockerd", "--fixed-cidr-v6": "dockerd", "--ip6tables": "dockerd", "--experimental": "dockerd",
}

// Every flag and every variable that a page names is there.
func TestFlagsExist(t *testing.T) {
	table, err := os.ReadFile(filepath.Join(root, "docs/cli.md")) // made from the command tables
	if err != nil {
		t.Fatal(err)
	}
	flag := regexp.MustCompile(`(?:^|[\s(|"'=])(--[a-z][a-z0-9_-]*[a-z0-9])`)
	known, variables := map[string]bool{"--version": true, "--help": true}, map[string]bool{}
	for _, m := range regexp.MustCompile("`(--[a-z0-9_-]+)").FindAllStringSubmatch(string(table), -1) {
		known[m[1]] = true
		variables["FLANNELD_"+strings.ToUpper(strings.ReplaceAll(m[1][2:], "-", "_"))] = true
	}
	for _, p := range pages(t) {
		said := p.Code
		for _, b := range p.Blocks {
			said = append(said, Code{b.Line, b.Text})
		}
		for _, c := range said {
			for _, m := range flag.FindAllStringSubmatch(c.Text, -1) {
				if !known[m[1]] && others[m[1]] == "" {
					t.Errorf("%s:%d: %s is no flag of flanneld's, nor one of those of other programs", p.Name, c.Line, m[1])
				}
			}
			for _, name := range regexp.MustCompile(`FLANNELD_[A-Z0-9_]+`).FindAllString(c.Text, -1) {
				if !variables[name] {
					t.Errorf("%s:%d: %s is no variable of flanneld's", p.Name, c.Line, name)
				}
			}
		}
	}
}

// The scripts and lines of shell on the pages are shell.
func TestShellParses(t *testing.T) {
	for _, p := range pages(t) {
		for _, b := range p.Blocks {
			if b.Lang != "sh" {
				continue
			}
			cmd := exec.Command("bash", "-n")
			cmd.Stdin = strings.NewReader(b.Text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s:%d: %v\n%s", p.Name, b.Line, err, out)
			}
		}
	}
}
