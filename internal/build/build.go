// Package build names the build that runs. Workers of a cluster register under that
// name, so that an incident is not moved to other steps by accident.
package build

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"runtime/debug"
)

// digits is how much of a revision or digest a name has: enough to tell builds
// apart, short enough to be read aloud.
const digits = 12

// ID is the name of this build: "rev-" and the revision it was made from where the
// tree was clean, so that all machines and architectures agree; else "bin-" and the
// SHA-256 of the program file, both cut to 12 digits. It reads that file then. Empty
// where neither can be told. What it may hold and how long it may be follows the
// build id of a worker deployment version
// (https://docs.temporal.io/worker-versioning).
func ID() string {
	info, ok := debug.ReadBuildInfo()
	if ok {
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if id := revision(settings); id != "" {
			return id
		}
	}
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return file(path)
}

// revision names a build of a clean tree; "" for others.
func revision(settings map[string]string) string {
	rev := settings["vcs.revision"]
	if len(rev) < digits || settings["vcs.modified"] != "false" {
		return ""
	}
	return "rev-" + rev[:digits]
}

func file(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // it was only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return "bin-" + hex.EncodeToString(h.Sum(nil))[:digits]
}
