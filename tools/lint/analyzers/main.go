// Analyzers that `go vet` and staticcheck lack, for go vet -vettool. Those are here that have no
// false alarms on this code: CONTRIBUTING.md says which others were tried.
package main

import (
	"golang.org/x/tools/go/analysis/passes/nilness"
	"golang.org/x/tools/go/analysis/passes/reflectvaluecompare"
	"golang.org/x/tools/go/analysis/passes/sortslice"
	"golang.org/x/tools/go/analysis/unitchecker"
)

func main() {
	unitchecker.Main(nilness.Analyzer, reflectvaluecompare.Analyzer, sortslice.Analyzer)
}
