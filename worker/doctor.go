package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"rekey/internal/cli"
	"rekey/internal/config"
)

// States of a check of [Doctor].
const (
	stateOK      = "ok"
	stateFault   = "fault"
	stateMended  = "mended"
	stateSkipped = "skipped"
)

// lookLimit bounds one look at something over the network.
const lookLimit = 10 * time.Second

// A doctor looks at one installation. Each area is a file: doctor_data.go,
// doctor_people.go, doctor_live.go. A new check is a method that says what it saw
// through ok, fault, mended or skipped, exactly once for each subject, and its call
// in [doctor.examine]. It makes no key and no directory that is missing, and
// changes something only with fix.
type doctor struct {
	cfg    *config.Config
	fix    bool
	only   []cli.DoctorArea // empty: all
	now    func() time.Time
	free   func(dir string) (uint64, error) // bytes on the disk of dir
	checks []cli.DoctorCheck
}

// Doctor says what is wrong with this installation and how to mend it. With
// o.Fix it mends what loses nothing: it takes rights of others away from files
// below the data directory, creates the Temporal namespace, raises its retention
// and registers missing search attributes. No check shows a secret. The error is
// ctx's alone; a configuration that cannot be read is a fault, and then the only
// one, because everything else depends on it.
func Doctor(ctx context.Context, o cli.DoctorOptions, _ cli.IOStreams) (cli.DoctorResult, error) {
	d := &doctor{fix: o.Fix, only: o.Only, now: time.Now, free: freeBytes}
	return d.examine(ctx, o.Common)
}

func (d *doctor) examine(ctx context.Context, c cli.Common) (cli.DoctorResult, error) {
	if d.configuration(c) {
		running := false
		for _, part := range []struct {
			area cli.DoctorArea
			look func()
		}{
			{cli.DoctorData, func() { d.dataDir(); d.disk(); d.keys(); d.secretFiles(); d.blobs(ctx) }},
			{cli.DoctorEstate, d.estate},
			{cli.DoctorPeople, d.people},
			{cli.DoctorPlaybooks, d.playbooks},
			{cli.DoctorServer, func() {
				running = d.server(ctx)
				d.alone(running)
				d.codecEndpoint(ctx, running)
				d.ports(ctx, running)
			}},
			{cli.DoctorTemporal, func() { d.temporal(ctx, running) }},
			{cli.DoctorProviders, func() { d.providers(ctx) }},
			{cli.DoctorChannels, func() { d.channels(ctx) }},
			{cli.DoctorTelemetry, func() { d.telemetry(ctx) }},
		} {
			if len(d.only) == 0 || slices.Contains(d.only, part.area) {
				part.look()
			}
		}
	}
	return cli.DoctorResult{Schema: cli.SchemaDoctor, Checks: d.checks}, ctx.Err()
}

func (d *doctor) ok(id, format string, args ...any) {
	d.checks = append(d.checks, cli.DoctorCheck{ID: id, State: stateOK, Detail: fmt.Sprintf(format, args...)})
}

func (d *doctor) fault(id, do, format string, args ...any) {
	d.checks = append(d.checks, cli.DoctorCheck{ID: id, State: stateFault, Detail: fmt.Sprintf(format, args...), Do: do})
}

func (d *doctor) mended(id, format string, args ...any) {
	d.checks = append(d.checks, cli.DoctorCheck{ID: id, State: stateMended, Detail: fmt.Sprintf(format, args...)})
}

func (d *doctor) skipped(id, format string, args ...any) {
	d.checks = append(d.checks, cli.DoctorCheck{ID: id, State: stateSkipped, Detail: fmt.Sprintf(format, args...)})
}

// configuration loads rekey.yaml; every problem is a fault of its own.
func (d *doctor) configuration(c cli.Common) bool {
	cfg, err := loadFile(c, nil)
	var invalid *config.InvalidError
	if errors.As(err, &invalid) {
		for _, p := range invalid.Problems {
			d.fault("config", "mend it, then run `rekey doctor` again: nothing else can be looked at before", "%s", p)
		}
		return false
	}
	if err != nil {
		d.fault("config", "mend it, then run `rekey doctor` again: nothing else can be looked at before", "%s", message(err))
		return false
	}
	d.cfg = cfg
	file := cfg.File
	if file == "" {
		file = "no rekey.yaml, defaults and variables"
	}
	d.ok("config", "%s; data in %s", file, cfg.Data)
	for _, w := range cfg.Warnings {
		d.ok("config", "note: %s", w)
	}
	return true
}

// message is an error's text without the advice that goes into Do.
func message(err error) string {
	var e *cli.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

// minFree is below what a busy incident can write before somebody looks; below
// 64 MiB the embedded server does not start at all.
const minFree = 512 << 20

// dataDir holds every directory to 0700 and every file to 0600 (contracts section
// 1). Public keys (*.pub) may be read.
func (d *doctor) dataDir() {
	const id = "data.modes"
	info, err := os.Stat(d.cfg.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.skipped(id, "%s is not there yet: the first `rekey up` makes it", d.cfg.Data)
		return
	case err != nil:
		d.fault(id, "check data in rekey.yaml and who owns the directory", "%s cannot be looked at", d.cfg.Data)
		return
	case !info.IsDir():
		d.fault(id, "set data in rekey.yaml to a directory", "%s is not a directory", d.cfg.Data)
		return
	}
	if info.Mode().Perm()&0o077 != 0 && !d.inUse() {
		// `--data /tmp` must not change /tmp.
		d.fault(id, "choose an empty directory, or run `chmod 700 "+d.cfg.Data+"`", "%s is open to others (mode %04o) and holds nothing of rekey", d.cfg.Data, info.Mode().Perm())
		return
	}
	open, foreign, unread := d.walk()
	switch {
	case len(unread) > 0:
		d.fault(id, "run rekey and this command as the user who owns the data directory", "%s cannot be read", some(unread))
	case len(foreign) > 0:
		d.fault(id, "run `chown -R` to the user that rekey runs as, and rekey only as that user", "%s belongs to another user", some(foreign))
	}
	if len(open) == 0 {
		if len(unread)+len(foreign) == 0 {
			d.ok(id, "only their owner can open the files in %s", d.cfg.Data)
		}
		return
	}
	if !d.fix {
		d.fault(id, "run `rekey doctor --fix`, and treat secrets in them as exposed if others use this machine", "open to others: %s", some(open))
		return
	}
	for _, path := range open {
		if err := os.Chmod(path, private(path)); err != nil {
			d.fault(id, "run `chmod go-rwx "+path+"` as its owner", "%s cannot be closed to others", path)
			return
		}
	}
	d.mended(id, "closed to others: %s; treat secrets in them as exposed if others use this machine", some(open))
}

// private is the mode that a path below the data directory is to have.
func private(path string) fs.FileMode {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return 0o700
	}
	return 0o600
}

// inUse tells whether the data directory is rekey's.
func (d *doctor) inUse() bool {
	for _, name := range []string{"keys", "temporal.db", "blobs"} {
		if exists(filepath.Join(d.cfg.Data, name)) {
			return true
		}
	}
	return false
}

// walk lists what is open to others, what others own and what cannot be read.
// Links are not followed: what they point to is not below the data directory.
func (d *doctor) walk() (open, foreign, unread []string) {
	_ = filepath.WalkDir(d.cfg.Data, func(path string, e fs.DirEntry, err error) error { // every error is in unread
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) { // removed meanwhile by a running rekey
				unread = append(unread, path)
			}
			return nil
		}
		info, err := e.Info()
		if err != nil || info.Mode()&fs.ModeSymlink != 0 {
			return nil //nolint:nilerr // the fault is in the result
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() && os.Geteuid() != 0 {
			foreign = append(foreign, path)
		}
		loose := fs.FileMode(0o077)
		if strings.HasSuffix(path, ".pub") {
			loose = 0o022
		}
		if info.Mode().Perm()&loose != 0 {
			open = append(open, path)
		}
		return nil
	})
	return open, foreign, unread
}

// some names the first few paths and counts the others.
func some(paths []string) string {
	const few = 3
	if len(paths) <= few {
		return strings.Join(paths, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(paths[:few], ", "), len(paths)-few)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// disk looks at the nearest directory that exists.
func (d *doctor) disk() {
	const id = "data.disk"
	dir := d.cfg.Data
	for !exists(dir) && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
	}
	n, err := d.free(dir)
	switch {
	case err != nil:
		d.fault(id, "check the file system of "+dir, "its free space cannot be told")
	case n < minFree:
		d.fault(id, "free some space, or move the data directory: a full disk stops an incident in the middle", "%d MiB free in %s, less than %d MiB", n>>20, dir, uint64(minFree)>>20)
	default:
		d.ok(id, "%d MiB free in %s", n>>20, dir)
	}
}

func freeBytes(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil //nolint:gosec // a block size is not negative
}
