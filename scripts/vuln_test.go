// Package scripts has the tests of scripts that nothing else runs.
package scripts

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// vulnDB is a database with one vulnerability: of a function of net/url.
func vulnDB(t *testing.T, function string) string {
	t.Helper()
	dir := t.TempDir()
	const modified = `"modified": "2026-01-02T03:04:05Z"`
	for name, content := range map[string]string{
		"index/db.json":      `{` + modified + `}`,
		"index/modules.json": `[{"path": "stdlib", "vulns": [{"id": "GO-2026-0001", ` + modified + `}]}]`,
		"index/vulns.json":   `[{"id": "GO-2026-0001", ` + modified + `}]`,
		"ID/GO-2026-0001.json": `{"schema_version": "1.3.1", "id": "GO-2026-0001", ` + modified + `, "published": "2026-01-02T03:04:05Z",
			"database_specific": {"url": "https://pkg.go.dev/vuln/GO-2026-0001"}, "summary": "made for a test", "details": "made for a test",
			"affected": [{"package": {"name": "stdlib", "ecosystem": "Go"},
				"ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}],
				"ecosystem_specific": {"imports": [{"path": "net/url", "symbols": ["` + function + `"]}]}}]}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "file://" + dir
}

// TestVulnerabilities: one in what is called fails lint, and one in what is not called does not, nor does a
// database that cannot be reached.
func TestVulnerabilities(t *testing.T) {
	tool, err := filepath.Abs("../build/govulncheck")
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("vuln.sh")
	if err != nil {
		t.Fatal(err)
	}
	module := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":  "module m\n\ngo 1.26\n",
		"main.go": "package main\n\nimport \"net/url\"\n\nfunc main() { _, _ = url.Parse(\"a\") }\n",
	} {
		if err := os.WriteFile(filepath.Join(module, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	for _, tt := range []struct {
		name, db string
		code     int
		says     string
		lines    int // 0: any number
	}{
		{"called", vulnDB(t, "Parse"), 3, "GO-2026-0001", 0},
		{"not called", vulnDB(t, "JoinPath"), 0, "", 0},
		{"nobody is there", "", 0, "vuln.sh: not looked for known vulnerabilities, as their database cannot be reached: ", 1},
		{"no database", "file:///nowhere", 1, "nowhere", 0},
	} {
		cmd := exec.Command(script, tool, ".")
		cmd.Dir = module
		cmd.Env = append(os.Environ(), "GOVULNDB="+tt.db, "HTTPS_PROXY=http://"+nobody.Addr().String(), "NO_PROXY=")
		out, _ := cmd.CombinedOutput()
		said := string(out)
		if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(said, tt.says) ||
			tt.lines > 0 && strings.Count(said, "\n") != tt.lines || tt.code == 0 && tt.lines == 0 && said != "" {
			t.Errorf("%s: exit code %d, want %d, and it says\n%s", tt.name, code, tt.code, said)
		}
	}
}
