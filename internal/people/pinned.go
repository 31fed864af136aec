package people

import (
	"fmt"
	"maps"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"rekey/internal/config"
	"rekey/internal/statement"
)

// Paths of the keys below the data directory.
func LocalKeyFile(data string) string  { return filepath.Join(data, "keys", "local.key") }
func ServerKeyFile(data string) string { return filepath.Join(data, "keys", "server.key") }

// Methods by which a statement's author was authenticated.
const (
	MethodCLIKey = "cli-key" // the author's own key
	MethodServer = "server"  // the server's key
)

// localRoles are the local user's until rekey.yaml names people (contracts
// section 0).
func localRoles() []string { return []string{"commander", "security", "approver", "admin"} }

// LocalActor is "local:" and the name of the user this process runs as.
func LocalActor() string {
	name := "unknown"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	return "local:" + strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '-'
		}
		return r
	}, name)
}

// Reporter is who the bearer of the cli-token is: the person whose `local` names
// the user this process runs as, or else [LocalActor]. Without it somebody could
// report through the command line and approve under their own name.
func Reporter(c *config.Config) string {
	local := LocalActor()
	for _, name := range slices.Sorted(maps.Keys(c.People)) {
		if p := c.People[name]; p.Local != "" && "local:"+p.Local == local {
			return name
		}
	}
	return local
}

// A Voters is who may vote, as pinned at the start of an incident.
type Voters struct {
	People []statement.Person
	// ServerKeys are base64 Ed25519 keys of the servers that may sign the
	// statements of triggers.
	ServerKeys []string
	// Solo: one person answers for everything (contracts section 2).
	Solo bool
}

// Pinned reads the keys of the configured people, or makes the local user's key
// when there are none, and the server's. The order is by name, so that the same
// configuration pins the same. A person without cli_key_file can vote through
// other channels only.
func Pinned(c *config.Config, data string) (Voters, error) {
	server, err := LoadOrCreate(ServerKeyFile(data))
	if err != nil {
		return Voters{}, fmt.Errorf("server's signing key: %w", err)
	}
	v := Voters{ServerKeys: []string{Encode(Public(server))}, Solo: c.Solo()}
	if len(c.People) == 0 {
		local, err := LoadOrCreate(LocalKeyFile(data))
		if err != nil {
			return Voters{}, fmt.Errorf("local user's signing key: %w", err)
		}
		v.People = []statement.Person{{Actor: LocalActor(), Roles: localRoles(), Keys: []string{Encode(Public(local))}}}
		return v, nil
	}
	owner := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.People)) {
		p := statement.Person{Actor: name, Roles: slices.Clone(c.People[name].Roles)}
		if id := c.People[name].Slack; id != "" {
			if other, twice := owner[id]; twice {
				return Voters{}, fmt.Errorf("people.%s.slack: %s is also %s's: one person would have two votes", name, id, other)
			}
			owner[id] = name
			p.Methods = append(p.Methods, statement.MethodSlack)
		}
		if file := c.People[name].CLIKeyFile; file != "" {
			pub, err := LoadPublic(file)
			if err != nil {
				return Voters{}, fmt.Errorf("people.%s.cli_key_file: %w", name, err)
			}
			p.Keys = []string{Encode(pub)}
			if other, twice := owner[p.Keys[0]]; twice {
				return Voters{}, fmt.Errorf("people.%s.cli_key_file: the key is also %s's: give each person a key of their own, or one person would have two votes", name, other)
			}
			owner[p.Keys[0]] = name
		}
		v.People = append(v.People, p)
	}
	return v, nil
}
