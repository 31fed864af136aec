package config

import (
	"maps"
	"os"
	"slices"
	"strings"
)

// envPrefix begins every variable of rekey.
const envPrefix = "REKEY_"

// notKeys are variables that are not keys of the file: which file to read, and
// those of tools around rekey.
var notKeys = []string{"REKEY_CONFIG", "REKEY_REQUIRE_SERVERS", "REKEY_SERVER", "REKEY_IDENTITY", "REKEY_TOKEN_FILE"}

// EnvName is the variable of a key: dots (and dashes of names, which no shell
// takes) become `_`.
func EnvName(key string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

// environment gives every key that a variable sets, and the variables that look
// like rekey's and are none. known are the keys that exist already: names with
// dashes are found through them.
func environment(tree *node, known []string) (set map[string]string, strange []string) {
	byEnv := map[string]string{}
	for _, k := range known {
		byEnv[EnvName(k)] = k
	}
	set = map[string]string{}
	refers := map[string]bool{}
	for _, entry := range os.Environ() {
		variable, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(variable, envPrefix) || value == "" || slices.Contains(notKeys, variable) {
			continue
		}
		key, ok := byEnv[variable]
		if !ok {
			key, ok = tree.fromEnv(strings.ToLower(strings.TrimPrefix(variable, envPrefix)))
		}
		if ok {
			set[key] = variable
		} else {
			refers[variable] = true
		}
	}
	return set, slices.Sorted(maps.Keys(refers))
}

// fromEnv finds the key that a variable names when it is not in the file, such
// as providers_awsiam_prod_base_url. A name the user chose ends at the first
// `_` that leaves a right key behind it; for people, who are the last name
// before fixed keys, that is the longest such name.
func (n *node) fromEnv(rest string) (string, bool) {
	switch {
	case n.value != nil:
		return "", rest == ""
	case n.keys != nil:
		for _, k := range sortedKeys(n.keys) {
			after, ok := cutWord(rest, k)
			if !ok {
				continue
			}
			if tail, ok := n.keys[k].fromEnv(after); ok {
				return joinKey(k, tail), true
			}
		}
	case n.reference:
		if referenceValue(rest) != nil && userNameRE.MatchString(rest) {
			return rest, true
		}
	case n.named != nil:
		for i := 1; i <= len(rest); i++ {
			if i < len(rest) && rest[i] != '_' {
				continue
			}
			name, after := rest[:i], strings.TrimPrefix(rest[i:], "_")
			if !userNameRE.MatchString(name) || (after == "") != (n.named.value != nil) {
				continue
			}
			if tail, ok := n.named.fromEnv(after); ok {
				return joinKey(name, tail), true
			}
		}
	}
	return "", false
}

func cutWord(s, word string) (string, bool) {
	after, ok := strings.CutPrefix(s, word)
	if !ok || (after != "" && after[0] != '_') {
		return "", false
	}
	return strings.TrimPrefix(after, "_"), true
}

func joinKey(a, b string) string { return strings.TrimSuffix(a+"."+b, ".") }
