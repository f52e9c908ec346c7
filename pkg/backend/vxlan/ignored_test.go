package vxlan

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"flanneld/pkg/backend"
)

// TestOptionsAreGuessed: no option is missing from those that a misspelt one may mean,
// nor from what users of flannel read.
func TestOptionsAreGuessed(t *testing.T) {
	document, err := os.ReadFile("../../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	for f := range reflect.TypeFor[options]().Fields() {
		text := fmt.Sprintf(`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","%sx":1}}`, f.Name)
		want := []backend.Ignored{{Field: "Backend." + f.Name + "x", Remark: "did you mean Backend." + f.Name + "?"}}
		if got := backend.IgnoredFields(text, map[string]backend.Factory{Type: New}); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", got, want)
		}
		if !strings.Contains(string(document), "\n| `Backend."+f.Name+"` |") {
			t.Errorf("docs/compatibility.md has no row about Backend.%s", f.Name)
		}
	}
}
