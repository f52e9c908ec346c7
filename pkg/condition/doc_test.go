package condition_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"flanneld/pkg/condition"
)

// TestDocument compares docs/conditions.md with the codes. UPDATE=1 writes it.
func TestDocument(t *testing.T) {
	const file = "../../docs/conditions.md"
	var b strings.Builder
	b.WriteString(`# Conditions

What is not as it should be has a code. It is the same everywhere: in the log (` + "`condition=\"EtcdUnreadable\"`" + `), in
` + "`flanneld status --output=json`" + ` (` + "`conditions[].code`" + `), in the metric ` + "`flanneld_condition{code,severity}`" + `. ` + "`flanneld check`" + ` says what
to do about it. Codes stay; new ones may be added.

- **error**: packets are lost, or will be unless somebody acts. **warning**: flanneld goes on as well as it can.
  **pending**: it only takes its time.
- **Not ready**: while there is such a condition, ` + "`/readyz`" + ` answers 503.

| code | severity | not ready | meaning |
|---|---|---|---|
`)
	for _, c := range condition.Codes() {
		unready := ""
		if c.Unready() {
			unready = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", c, c.Severity(), unready, c.About())
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != b.String() {
		t.Errorf("%s is not up to date (%v): UPDATE=1 go test -run TestDocument ./pkg/condition", file, err)
	}
}
