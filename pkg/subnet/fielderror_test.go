package subnet

import (
	"errors"
	"strings"
	"testing"
)

// TestWhatEditorsDo names what cannot be seen in a config's text.
func TestWhatEditorsDo(t *testing.T) {
	const good = `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`
	for _, tt := range []struct{ text, says string }{
		{good, ""},
		{"\ufeff" + good, "begins with a byte order mark (BOM)"},
		{"\xff\xfe{\x00", "is UTF-16, and must be UTF-8"},
		{strings.ReplaceAll(good, `"`, "“"), `has curly quotes (“, first at byte 2) in place of plain ones: write each as "`},
		{`{"Network":”172.7.0.0/16”}`, "has curly quotes (”, first at byte 12)"},
		{"{‘Network’:1}", "has curly quotes (‘"},
		{strings.ReplaceAll(good, `"`, `'`), "has single quotes (first at byte 2) in place of double ones"},
		{"{\u00a0\"Network\":\"172.7.0.0/16\"}", "has a space that is none to JSON (U+00A0 at byte 2)"},
		{`{"Network":"172.7.0.0/16","Note":"“it's” \" ‘fine’","Backend":{"Type":"host-gw"}}`, ""},
		{`{"Network":"172.7.0.0/16","Note":"“it's”"`, "is not JSON: unexpected end"},
		{`{"Network":"172.7.0.0/16","Backend":{'Type':"x"}}`, "has single quotes"},
	} {
		_, err := ParseConfig(tt.text)
		var field *FieldError
		switch {
		case tt.says == "" && err != nil, tt.says != "" && (!errors.As(err, &field) || !strings.Contains(err.Error(), tt.says)):
			t.Errorf("%q: %v, want %q", tt.text, err, tt.says)
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Errorf("%q: more than a line", err)
		}
	}
}
