// Release makes the parts of a release that tar and sha256sum cannot make: the list of
// what is in a binary, the licenses of that, and the image. The same files, version and
// time give the same bytes.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

const usage = `usage:
  release sbom VERSION BINARY          print what is in a Go program, as CycloneDX JSON
  release licenses                     print the licenses of what a Go program is linked from;
                                       it reads what go list -deps -json=ImportPath,Dir,Standard,Module
                                       says of that
  release image VERSION SECONDS DIR    print an OCI image layout as a tar archive; it has an
                                       image for each folder DIR/<GOARCH>, which holds flanneld
                                       and what lies beside it; SECONDS is the time of all files`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// run prints only what is complete.
func run(args []string) error {
	var out bytes.Buffer
	switch {
	case len(args) == 3 && args[0] == "sbom":
		bom, err := describe(args[2], args[1])
		if err != nil {
			return err
		}
		if err := encode(&out, bom); err != nil {
			return err
		}
	case len(args) == 1 && args[0] == "licenses":
		if err := writeLicenses(&out, os.Stdin); err != nil {
			return err
		}
	case len(args) == 4 && args[0] == "image":
		seconds, err := strconv.ParseInt(args[2], 10, 64)
		if err != nil {
			return fmt.Errorf("read the time of all files: %w", err)
		}
		if err := writeImage(&out, args[1], time.Unix(seconds, 0).UTC(), args[3]); err != nil {
			return err
		}
	default:
		return errors.New(usage)
	}
	_, err := out.WriteTo(os.Stdout)
	return err
}
