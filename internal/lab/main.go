package lab

import (
	"fmt"
	"os"
	"testing"
)

// Main is a package's TestMain: it runs the tests in the lab's namespaces.
func Main(m *testing.M) {
	if err := Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
