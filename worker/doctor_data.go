package worker

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"rekey/internal/audit"
	"rekey/internal/codec/keyring"
	"rekey/internal/estate"
	"rekey/internal/fsx"
	"rekey/internal/people"
	"rekey/internal/playbook"
	"rekey/internal/secret"
	"rekey/internal/secret/agestore"
	"rekey/internal/secret/installation"
)

const (
	// maxSecretFile bounds a file with a credential.
	maxSecretFile = 64 << 10
)

// keys opens every key of the installation. A key that is missing is made at the
// first start; where there are data already, that would hide their loss.
func (d *doctor) keys() {
	data := d.cfg.Data
	d.key("keys.installation", installationKey(data), "a new one would recognise no earlier incident", func(path string) (string, error) {
		_, err := installation.Load(path)
		return "the installation key is readable", err
	})
	d.codec()
	d.age()
	d.key("keys.server", people.ServerKeyFile(data), "open incidents take reports signed by the old one only", func(path string) (string, error) {
		_, err := people.LoadIdentity(path)
		return "the server's signing key is readable", err
	})
	if len(d.cfg.People) == 0 {
		d.key("keys.local", people.LocalKeyFile(data), "open incidents take votes signed by the old one only", func(path string) (string, error) {
			_, err := people.LoadIdentity(path)
			return "the local user's signing key is readable", err
		})
	}
	path := filepath.Join(data, "keys", "audit", "audit.key")
	if d.cfg.Audit.KeyFile != "" {
		path = filepath.Join(filepath.Dir(d.cfg.Audit.KeyFile), "audit.key")
	}
	if f := d.cfg.Audit.KeyFile; f != "" && filepath.Base(f) != "audit.key" {
		d.fault("keys.audit", "name it audit.key, and change audit.key_file", "%s is not looked at: the key is always audit.key in that directory", f)
	}
	d.key("keys.audit", path, "bundles would be signed by a key that nobody trusts yet", func(path string) (string, error) {
		s, err := audit.LoadOrCreateSigner(filepath.Dir(path), d.cfg.Audit.Origin)
		if err != nil {
			return "", err
		}
		return "bundles are signed as " + s.Origin(), nil
	})
	d.key("keys.cli-token", people.TokenFile(data), "", func(string) (string, error) {
		_, err := people.ReadToken(data)
		return "the command line's token is readable", err
	})
}

// key opens one key file that is there. lost says what a new one would break; ""
// when nothing.
func (d *doctor) key(id, path, lost string, open func(path string) (string, error)) {
	if !exists(path) {
		if lost != "" && d.used() {
			d.fault(id, "restore it from backup before the next start makes a new one", "%s is missing though there are incidents: %s", path, lost)
			return
		}
		d.skipped(id, "%s is not there yet: the first start makes it", path)
		return
	}
	detail, err := open(path)
	if err != nil {
		d.fault(id, "mend the file, then run `rekey doctor` again", "%s", err)
		return
	}
	d.ok(id, "%s", detail)
}

// used tells whether something was stored under the keys.
func (d *doctor) used() bool {
	for _, pattern := range []string{"temporal.db", "blobs/sha256/*/*", "bundles/*", "sealed/*"} {
		if m, err := filepath.Glob(filepath.Join(d.cfg.Data, pattern)); err == nil && len(m) > 0 {
			return true
		}
	}
	return false
}

func (d *doctor) codecDir() string {
	if d.cfg.Codec.KeysDir != "" {
		return d.cfg.Codec.KeysDir
	}
	return filepath.Join(d.cfg.Data, "keys", "codec")
}

func (d *doctor) codec() {
	const id = "keys.codec"
	dir := d.codecDir()
	d.key(id, dir, "what is encrypted now cannot be read again", func(dir string) (string, error) {
		k, err := keyring.Open(keyring.Options{Dir: dir, Current: d.cfg.Codec.Current})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("key %s encrypts, %d can decrypt", k.Current(), len(k.IDs())), nil
	})
}

func (d *doctor) age() {
	const id = "keys.age"
	path := d.cfg.Sealed.IdentityFile
	if path == "" {
		path = filepath.Join(d.cfg.Data, "keys", "age.txt")
	}
	d.key(id, path, "what is sealed now cannot be opened again", func(path string) (string, error) {
		var pass secret.Value
		if f := d.cfg.Sealed.PassphraseFile; f != "" {
			var err error
			if pass, err = agestore.ReadPassphrase(f); err != nil {
				return "", err
			}
			defer pass.Destroy()
		}
		_, err := agestore.LoadIdentity(path, pass)
		return "the sealed store can be opened", err
	})
}

// secretFiles are the files with secrets that rekey.yaml names, besides keys and
// credentials of providers, which are looked at where they are used. The
// configuration has refused those that others can read.
func (d *doctor) secretFiles() {
	files := map[string]string{
		"listen.tls.key_file":               d.cfg.Listen.TLS.KeyFile,
		"temporal.tls.key_file":             d.cfg.Temporal.TLS.KeyFile,
		"temporal.api_key_file":             d.cfg.Temporal.APIKeyFile,
		"blobs.access_key_file":             d.cfg.Blobs.AccessKeyFile,
		"blobs.secret_key_file":             d.cfg.Blobs.SecretKeyFile,
		"channels.email.password_file":      d.cfg.Channels.Email.PasswordFile,
		"channels.webhook.signing_key_file": d.cfg.Channels.Webhook.SigningKeyFile,
	}
	for _, key := range slices.Sorted(maps.Keys(files)) {
		if files[key] == "" {
			continue
		}
		raw, err := fsx.ReadPrivate(files[key], maxSecretFile)
		size := len(raw)
		clear(raw)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			d.fault("files."+key, "put the secret there, mode 0600, or take the key out of rekey.yaml", "%s does not exist", files[key])
		case err != nil:
			d.fault("files."+key, "make it a plain file of at most 64 KiB that rekey's user owns, mode 0600", "%s cannot be read", files[key])
		case size == 0:
			d.fault("files."+key, "put the secret there", "%s is empty", files[key])
		default:
			d.ok("files."+key, "%s is readable", files[key])
		}
	}
}

// estate loads what rekey is told of keys, customers and holds.
func (d *doctor) estate() {
	load := func(id, none string, files []string, f func() error) {
		if len(files) == 0 {
			d.skipped(id, "%s", none)
			return
		}
		if err := f(); err != nil {
			d.fault(id, "mend the file: rekey does not start without it", "%s", err)
			return
		}
		d.ok(id, "%s", strings.Join(files, ", "))
	}
	load("estate", "no estate.files: who uses a key is only what providers say, and nothing is contained on report", d.cfg.Estate.Files, func() error {
		_, err := estate.Load(d.cfg.Estate.Files, nil, nil)
		return err
	})
	load("customers", "no customers.files: nobody outside can be told", d.cfg.Customers.Files, func() error {
		_, err := estate.Load(nil, d.cfg.Customers.Files, nil)
		return err
	})
	if d.cfg.Holds.File == "" {
		d.skipped("holds", "no holds.file")
		return
	}
	holds, err := estate.Holds(d.cfg.Holds.File)
	if err != nil {
		d.fault("holds", "mend the file: without it nothing may move, and reports are refused", "%s", err)
		return
	}
	over := 0
	for _, h := range holds {
		if !h.Until.IsZero() && !h.Until.After(d.now()) {
			over++
		}
	}
	d.ok("holds", "%d standing holds, %d of them over", len(holds), over)
}

// playbooks loads every shipped playbook as an incident would, and looks for pins
// that pin nothing.
func (d *doctor) playbooks() {
	info, err := descriptors()
	if err != nil {
		d.fault("playbooks", "this is a fault of the build: report it", "%s", err)
		return
	}
	digests := map[string]string{}
	for _, name := range playbook.Shipped() {
		l, err := playbook.Load(name, playbook.WithProviders(playbook.Descriptors(info)))
		if err != nil {
			d.fault("playbooks", "this is a fault of the build: report it", "%s", err)
			continue
		}
		if _, err := playbook.NewEvaluator(l.Playbook); err != nil {
			d.fault("playbooks", "this is a fault of the build: report it", "%s: its conditions cannot be used", name)
			continue
		}
		digests[l.Digest] = name
		d.ok("playbooks", "%s %s, %s", name, l.Playbook.Version, l.Digest)
	}
	seen := map[string]bool{}
	for _, pin := range d.cfg.Ceilings.PlaybookDigests {
		switch {
		case seen[pin]:
			d.fault("playbooks.pins", "take one of them out of ceilings.playbook_digests", "%s is pinned twice", pin)
		case digests[pin] != "":
			d.ok("playbooks.pins", "%s is %s of this build, which needs no pin", pin, digests[pin])
		default:
			d.ok("playbooks.pins", "%s may be used by whoever gives its text", pin)
		}
		seen[pin] = true
	}
}
