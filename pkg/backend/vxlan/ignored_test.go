package vxlan

import (
	"fmt"
	"reflect"
	"testing"

	"flanneld/pkg/backend"
)

// TestOptionsAreGuessed: no option is missing from those that a misspelt one may mean.
func TestOptionsAreGuessed(t *testing.T) {
	for f := range reflect.TypeFor[options]().Fields() {
		text := fmt.Sprintf(`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","%sx":1}}`, f.Name)
		want := []backend.Ignored{{Field: "Backend." + f.Name + "x", Remark: "did you mean Backend." + f.Name + "?"}}
		if got := backend.IgnoredFields(text, map[string]backend.Factory{Type: New}); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}
