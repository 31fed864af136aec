package cli

import "github.com/spf13/cobra"

// topics are help pages that are no commands.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "exit-codes", Short: "What the exit codes mean", Long: `Exit codes of rekey:

  0  done: every item is revoked-verified, expired-verified or
     never-existed-proven; or a reading command has answered
  1  failed: a decision was refused (the reason is on stderr), the engine is
     unreachable, a drill failed, doctor found faults, a bundle is unreadable
  2  usage: unknown command, flag or provider; malformed key id; invalid playbook
     or configuration. Nothing was started
  3  contained but not all-clear, or still going: accepted-risk,
     customer-action-open or needs-human; --wait met an open approval and
     --timeout passed, or was interrupted
  4  audit verify: the bundle was changed

Codes of refused decisions: self-approval, stale-plan, wrong-role, already-voted,
expired, no-open-approval, not-found, closed, held; forged and replayed for a
statement that fails its check.

With --json a failure is also written to stdout:
  {"error":{"code":"stale-plan","message":"...","do":"..."}}
`},
		{Use: "environment", Short: "Variables that rekey reads", Long: `Variables that rekey reads:

  REKEY_CONFIG    rekey.yaml to use, as --config
  REKEY_DATA      data directory, as --data
  REKEY_SERVER    URL of the rekey server, as --server
  REKEY_IDENTITY  file of the voter's private key, as --identity
  REKEY_...       every key of rekey.yaml in upper case, dots as underscores:
                  REKEY_LISTEN_HTTP is listen.http
  XDG_CONFIG_HOME where rekey/rekey.yaml is looked for
  NO_COLOR        when set, nothing is coloured
  TERM=dumb       nothing is drawn over in place

A flag goes before a variable, a variable before the file. A secret is never
taken from a flag; what rekey.yaml names with *_env is read from that variable.
HTTP_PROXY and the like are obeyed except for addresses of this machine.
`},
	}
}
