package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"rekey/internal/codec/keyring"
)

func (a *app) keysCommand() *cobra.Command {
	return family("keys", "Look at and rotate the keys under which rekey keeps its data",
		example("rekey keys list", "rekey keys rotate", "rekey keys rotate --activate"),
		a.keysListCommand(), a.keysRotateCommand())
}

// codecDir is where the payload codec's keys are (contracts section 1).
func (s settings) codecDir() string {
	return or(s.Codec.KeysDir, filepath.Join(s.Data, "keys", "codec"))
}

func (a *app) keyring() (*keyring.Keyring, settings, error) {
	s, err := a.settings()
	if err != nil {
		return nil, s, err
	}
	if _, err := os.Stat(s.codecDir()); err != nil {
		return nil, s, Failed(CodeFailed, "start `rekey up` once with this data directory, or check codec.keys_dir", "there are no codec keys in %s", s.codecDir())
	}
	k, err := keyring.Open(keyring.Options{Dir: s.codecDir(), Current: s.Codec.Current})
	if err != nil {
		return nil, s, Failed(CodeFailed, "start `rekey up` once with this data directory, or check codec.keys_dir", "the codec keys cannot be read: %s", err)
	}
	return k, s, nil
}

// keysJSON is `keys list|rotate --json`.
type keysJSON struct {
	Schema  string   `json:"schema"`
	Dir     string   `json:"dir"`
	Current string   `json:"current"`
	Keys    []string `json:"keys"`
	Added   string   `json:"added,omitempty"`
}

func (a *app) keysListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the codec keys by their ids",
		Example: example("rekey keys list --json"),
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			k, s, err := a.keyring()
			if err != nil {
				return err
			}
			a.renderKeys(k, s, "")
			return nil
		},
	}
}

func (a *app) renderKeys(k *keyring.Keyring, s settings, added string) {
	if a.asJSON {
		writeJSON(a.io.Out, keysJSON{"rekey.keys/v1", s.codecDir(), k.Current(), k.IDs(), added})
		return
	}
	for _, id := range k.IDs() {
		use := "opens"
		if id == k.Current() {
			use = "opens and seals"
		}
		fmt.Fprintf(a.io.Out, "%s  %s\n", id, use)
	}
}

func (a *app) keysRotateCommand() *cobra.Command {
	var id string
	var activate bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Rotate the codec key in two phases: add, then activate",
		Long: `rotate adds a new key: every process can open with it, none seals with it yet. On
several hosts, copy its file to each of them. "rotate --activate" then seals with
it. Old keys stay: what they sealed must be readable until its bundle is sealed.`,
		Example: example("rekey keys rotate", "rekey keys rotate --activate", "rekey keys rotate --id k2026-12"),
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			k, s, err := a.keyring()
			if err != nil {
				return err
			}
			if activate {
				return a.activateKey(k, s, id)
			}
			if id == "" {
				id = a.nextKeyID(k)
			}
			if slices.Contains(k.IDs(), id) {
				return Usage("choose another --id, or go on with --activate", "the key %s is there already", shown(id))
			}
			if err := k.Add(id); err != nil {
				return Failed(CodeFailed, "check the id and the directory "+s.codecDir(), "the key cannot be added: %s", err)
			}
			a.renderKeys(k, s, id)
			a.tell("Added %s. Copy %s to every host that runs rekey, then: rekey keys rotate --activate --id %s", id, filepath.Join(s.codecDir(), id+".key"), id)
			return nil
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "id of the key (default: of this month; with --activate the newest)")
	cmd.Flags().BoolVar(&activate, "activate", false, "seal with the added key from now on")
	return cmd
}

func (a *app) activateKey(k *keyring.Keyring, s settings, id string) error {
	if s.Codec.Current != "" {
		return Usage("change codec.current there instead, on every host", "rekey.yaml pins the key %s", s.Codec.Current)
	}
	if id == "" {
		id = slices.Max(k.IDs())
	}
	if !slices.Contains(k.IDs(), id) {
		return Usage(suggest(id, k.IDs(), "`rekey keys list` shows them"), "no key %s", shown(id))
	}
	if err := k.Activate(id); err != nil {
		return Failed(CodeFailed, "check the directory "+s.codecDir(), "the key cannot be activated: %s", err)
	}
	a.renderKeys(k, s, "")
	a.tell("%s seals from now on; a running rekey takes it up when it starts again.", id)
	return nil
}

// nextKeyID names a key after this month; a second one of the month has a number.
func (a *app) nextKeyID(k *keyring.Keyring) string {
	base := "k" + a.io.Now().UTC().Format("2006-01")
	id := base
	for n := 2; slices.Contains(k.IDs(), id); n++ {
		id = fmt.Sprintf("%s-%02d", base, n)
	}
	return id
}
