package condition

import (
	"errors"
	"fmt"
	"testing"
)

func TestCodeOf(t *testing.T) {
	plain := errors.New("no key")
	coded := Coded(KeyUnusable, plain)
	for err, want := range map[error]Code{
		plain: ConfigInvalid, coded: KeyUnusable, fmt.Errorf("start: %w", coded): KeyUnusable,
	} {
		if got := CodeOf(err, ConfigInvalid); got != want {
			t.Errorf("%v: %s", err, got)
		}
	}
	if Coded(KeyUnusable, nil) != nil || !errors.Is(coded, plain) || coded.Error() != "no key" {
		t.Errorf("%v", coded)
	}
}
