package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"rekey/internal/people"
	"rekey/internal/statement"
)

func (a *app) identityCommand() *cobra.Command {
	return family("identity", "Make the key with which you vote", example("rekey identity new ~/.rekey/me.key", "rekey identity show ~/.rekey/me.key"),
		a.identityNewCommand(), a.identityShowCommand())
}

// identityJSON is `identity new|show --json`.
type identityJSON struct {
	Schema     string `json:"schema"`
	File       string `json:"file"`
	PublicFile string `json:"public_file,omitempty"`
	PublicKey  string `json:"public_key"`
	KeyID      string `json:"key_id"`
	Actor      string `json:"actor,omitempty"`
}

func (a *app) identityNewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new FILE",
		Short: "Make a voter key: FILE is private, FILE.pub goes into rekey.yaml",
		Long: `new makes an Ed25519 key. FILE stays with you, readable by you alone; FILE.pub is
named in rekey.yaml under people.<you>.cli_key_file by whoever runs rekey. A vote
signed with it is yours whatever way it came.`,
		Example: example("rekey identity new ~/.rekey/me.key"),
		Args:    exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			public, err := people.GenerateIdentity(args[0])
			if errors.Is(err, fs.ErrExist) {
				return Usage("choose another file", "%s is there already and was not touched", args[0])
			}
			if err != nil {
				return Failed(CodeFailed, "check that its directory is there and yours", "the key cannot be written: %s", err)
			}
			key, err := people.LoadIdentity(args[0])
			if err != nil {
				return err
			}
			defer clear(key)
			if a.asJSON {
				writeJSON(a.io.Out, identityJSON{Schema: "rekey.identity/v1", File: args[0], PublicFile: args[0] + ".pub", PublicKey: public, KeyID: statement.KeyID(people.Public(key))})
				return nil
			}
			fmt.Fprintf(a.io.Out, "%s      private; keep it\n%s.pub  public; name it in rekey.yaml:\n\npeople:\n  YOUR-NAME: {roles: [commander], cli_key_file: %s.pub}\n", args[0], args[0], args[0])
			return nil
		},
	}
}

func (a *app) identityShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show [FILE]",
		Short:   "Show whose key it is, without the key",
		Example: example("rekey identity show", "rekey identity show ~/.rekey/me.key --json"),
		Args:    exactly("[FILE]"),
		RunE: func(_ *cobra.Command, args []string) error {
			file := ""
			if len(args) == 1 {
				file = args[0]
			}
			id, err := a.identity(file, "")
			if err != nil {
				return err
			}
			defer clear(id.key)
			public := people.Public(id.key)
			out := identityJSON{Schema: "rekey.identity/v1", File: file, PublicKey: people.Encode(public), KeyID: statement.KeyID(public), Actor: id.actor}
			if a.asJSON {
				writeJSON(a.io.Out, out)
				return nil
			}
			fmt.Fprintf(a.io.Out, "actor       %s\nkey id      %s\npublic key  %s\n", out.Actor, out.KeyID, out.PublicKey)
			return nil
		},
	}
}
