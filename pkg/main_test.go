package pkg

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestLeaksAreLookedFor holds every folder with tests to a TestMain that fails
// where they leave a goroutine behind: goleak's own, or the lab's.
func TestLeaksAreLookedFor(t *testing.T) {
	looks := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, _ os.DirEntry, err error) error {
		if matched, _ := filepath.Match("*_test.go", filepath.Base(path)); err != nil || !matched {
			return err
		}
		source, err := os.ReadFile(path)
		looks[filepath.Dir(path)] = looks[filepath.Dir(path)] || bytes.Contains(source, []byte("goleak.VerifyTestMain(m")) || bytes.Contains(source, []byte("lab.Main(m)"))
		return err
	})
	if err != nil || len(looks) < 10 {
		t.Fatalf("%v: %v", looks, err)
	}
	for _, folder := range slices.Sorted(maps.Keys(looks)) {
		if !looks[folder] {
			t.Errorf("pkg/%s: no test looks for leaked goroutines", folder)
		}
	}
}
