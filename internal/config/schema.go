package config

import (
	"slices"
	"strings"
)

// A node of the tree of keys: a value, a group of fixed keys, or a group whose
// keys are names that the user chooses.
type node struct {
	value *value
	keys  map[string]*node
	named *node
	// what the names are, for messages: "a person".
	what string
	// reference: the keys are <name>_file and <name>_env.
	reference bool
}

type kind int

const (
	text kind = iota
	number
	truth
	list
	onePath
	manyPaths
)

// A value says of one key what may stand there.
type value struct {
	kind  kind
	def   any
	check func(string) error
}

func group(keys map[string]*node) *node { return &node{keys: keys} }

func named(what string, n *node) *node { return &node{named: n, what: what} }

func val(k kind, def any, checks ...func(string) error) *node {
	return &node{value: &value{kind: k, def: def, check: all(checks)}}
}

func schema() *node {
	str := func(def string, checks ...func(string) error) *node { return val(text, def, checks...) }
	file := func() *node { return val(onePath, "", notEmptyPath) }
	return group(map[string]*node{
		"data": val(onePath, "~/.local/state/rekey", notEmptyPath),
		"listen": group(map[string]*node{
			"http":        str("127.0.0.1:8443", address),
			"temporal":    str("127.0.0.1:7233", address),
			"ui":          str("127.0.0.1:8233", address),
			"metrics":     str("127.0.0.1:9464", address),
			"tls":         group(map[string]*node{"cert_file": file(), "key_file": file()}),
			"hosts":       val(list, nil, hostName),
			"url":         str("", url),
			"allow_clear": val(truth, false),
		}),
		"temporal": group(map[string]*node{
			"address":      str("temporal:7233", address),
			"namespace":    str("rekey", name),
			"retention":    str("720h", duration),
			"versioning":   val(truth, true),
			"tls":          group(map[string]*node{"ca_file": file(), "cert_file": file(), "key_file": file()}),
			"api_key_file": file(),
			"ui":           str("", url),
		}),
		"blobs": group(map[string]*node{
			"type":            str(BlobsDir, word(BlobsDir, BlobsS3)),
			"endpoint":        str("", url),
			"bucket":          str("", bucketName),
			"region":          str("", name),
			"prefix":          str("", keyPrefix),
			"access_key_file": file(),
			"secret_key_file": file(),
			"ca_file":         file(),
			"allow_private":   val(truth, false),
			"grace":           str("168h", duration),
		}),
		"sealed": group(map[string]*node{
			"type":            str("age", word("age")),
			"identity_file":   file(),
			"passphrase_file": file(),
		}),
		"codec": group(map[string]*node{"keys_dir": file(), "current": str("", name)}),
		"audit": group(map[string]*node{"origin": str("rekey.local", origin), "key_file": file()}),
		"people": named("a person", group(map[string]*node{
			"roles":        val(list, nil, word(Roles()...)),
			"slack":        str("", slackID),
			"oidc":         str("", oidcSubject),
			"cli_key_file": file(),
			"github":       str("", name),
			"local":        str("", name),
		})),
		"ceilings": group(map[string]*node{
			"sources":    named("a source", str("", word(CeilingPropose, CeilingContain))),
			"never_auto": val(list, nil, pattern),
			"breaker": group(map[string]*node{
				"per_source_per_hour":  val(number, 3, atLeast(0)),
				"per_account_per_hour": str("min(10, 1%)", perAccount),
			}),
			"irreversible": group(map[string]*node{
				"quorum":        val(number, 2, atLeast(1)),
				"outside_slack": val(number, 1, atLeast(0)),
			}),
			"playbooks":        str("pinned", word("pinned")),
			"playbook_digests": val(list, nil, digest),
			"commands":         named("a command", val(list, nil)),
		}),
		"providers": named("a provider", named("an account", group(map[string]*node{
			"account_id":    str("", plain),
			"regions":       val(list, nil, plain),
			"base_url":      str("", endpoint),
			"ca_file":       file(),
			"allow_private": val(truth, false),
			"credentials":   {reference: true, what: "a credential"},
			"rate":          named("a limit", str("", rate)),
			"settings":      named("a setting", str("", plain)),
		}))),
		"estate":    group(map[string]*node{"files": val(manyPaths, nil, notEmptyPath)}),
		"customers": group(map[string]*node{"files": val(manyPaths, nil, notEmptyPath)}),
		"holds":     group(map[string]*node{"file": file()}),
		"playbooks": group(map[string]*node{"files": val(manyPaths, nil, notEmptyPath)}),
		"record": group(map[string]*node{
			"slack":  group(map[string]*node{"channel": str("", plain)}),
			"github": group(map[string]*node{"repo": str("", repository), "labels": val(list, nil, plain)}),
		}),
		"channels": group(map[string]*node{
			"email": group(map[string]*node{
				"host":          str("", hostName),
				"port":          val(number, 587, port),
				"tls":           str("starttls", word("starttls", "implicit", "none")),
				"from":          str("", mailAddress),
				"user":          str("", plain),
				"password_file": file(),
				"ca_file":       file(),
				"allow_private": val(truth, false),
			}),
			"webhook": group(map[string]*node{"signing_key_file": file(), "ca_file": file(), "allow_private": val(truth, false)}),
			"slack": group(map[string]*node{
				"team":                str("", slackTeam),
				"bot_token_file":      file(),
				"signing_secret_file": file(),
				"app_token_file":      file(),
				"rests_on":            val(list, nil, keyPattern),
				"readers": group(map[string]*node{
					"user_groups":   val(list, nil, slackGroup),
					"email_domains": val(list, nil, hostName),
				}),
				"base_url":      str("", url),
				"ca_file":       file(),
				"allow_private": val(truth, false),
			}),
			"github": group(map[string]*node{
				"token_file":       file(),
				"app_id":           val(number, 0, atLeast(0)),
				"installation_id":  val(number, 0, atLeast(0)),
				"private_key_file": file(),
				"base_url":         str("", url),
				"ca_file":          file(),
				"allow_private":    val(truth, false),
			}),
		}),
		"telemetry": group(map[string]*node{
			"otlp_endpoint": str("", url),
			"ca_file":       file(),
			"headers_file":  file(),
			"percent":       val(number, 100, atLeast(0)),
		}),
	})
}

// Roles that a person may have (contracts section 1).
func Roles() []string {
	return []string{
		"viewer", "reporter", "responder", "approver", "commander", "security",
		"product", "legal", "auditor", "maintainer", "admin",
	}
}

// What a source may cause at most (design section 3).
const (
	CeilingPropose = "propose"
	CeilingContain = "contain"
)

// find walks the tree along a dotted key; nil when there is no such value.
func (n *node) find(key string) *value {
	for part := range strings.SplitSeq(key, ".") {
		switch {
		case n.keys != nil:
			n = n.keys[part]
		case n.named != nil:
			n = n.named
		case n.reference:
			return referenceValue(part)
		default:
			return nil
		}
		if n == nil {
			return nil
		}
	}
	return n.value
}

// referenceValue is the value under a key that names where a secret is.
func referenceValue(key string) *value {
	switch {
	case strings.HasSuffix(key, "_file") && key != "_file":
		return &value{kind: onePath, check: notEmptyPath}
	case strings.HasSuffix(key, "_env") && key != "_env":
		return &value{kind: text, check: envName}
	}
	return nil
}

// each calls f for every value with a fixed key, in sorted order.
func (n *node) each(prefix string, f func(key string, v *value)) {
	for _, k := range sortedKeys(n.keys) {
		key := strings.TrimPrefix(prefix+"."+k, ".")
		if child := n.keys[k]; child.value != nil {
			f(key, child.value)
		} else {
			child.each(key, f)
		}
	}
}

// asksForSecret tells whether a key that is not in the tree looks like the place
// for a secret's value.
func asksForSecret(key string) bool {
	key = strings.ToLower(strings.ReplaceAll(key, "-", "_"))
	for _, w := range []string{"password", "passwd", "passphrase", "secret", "token", "credential", "api_key", "apikey", "private_key", "access_key", "signing_key", "identity"} {
		if strings.Contains(key, w) && !strings.HasSuffix(key, "_file") && !strings.HasSuffix(key, "_env") {
			return true
		}
	}
	return false
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
