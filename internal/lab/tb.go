package lab

// TB is what the lab needs of a test. *testing.T and *testing.B have it; the
// demo brings its own.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
	TempDir() string
	Failed() bool
}
