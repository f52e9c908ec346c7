package subnet

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

func TestConfigText(t *testing.T) {
	for _, raw := range []string{
		`{"Network": "172.7.0.0/16"}`,
		`{"network": "10.1.0.0/16", "SubnetLen": 26, "SubnetMin": "10.1.4.0", "SubnetMax": "10.1.8.0", "EnableNFTables": true, "Backend": {"Type": "VxLAN", "VNI": 7, "x": "<&>"}}`,
	} {
		c, err := ParseConfig(raw)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfig(c.Text())
		if err != nil {
			t.Fatalf("%v in %s", err, c.Text())
		}
		if !sameJSON(c.Backend, again.Backend) {
			t.Errorf("%s becomes %s", c.Backend, again.Backend)
		}
		c.Backend, again.Backend = nil, nil
		if !reflect.DeepEqual(c, again) {
			t.Errorf("%+v becomes %+v", c, again)
		}
	}
	if got := (Config{Backend: json.RawMessage("{")}).Text(); got != "" {
		t.Error(got)
	}
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return bytes.Equal(a, b) || json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
