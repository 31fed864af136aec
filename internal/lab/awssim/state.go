package awssim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// Key states.
const (
	Active   = "Active"
	Inactive = "Inactive"
	Deleted  = "Deleted" // a tombstone: callers see NoSuchEntity
)

// User is an IAM user.
type User struct {
	Name         string            `json:"name"`
	ID           string            `json:"id"`
	Created      time.Time         `json:"created"`
	Inline       map[string]string `json:"inline,omitempty"`
	Attached     []string          `json:"attached,omitempty"` // managed policy ARNs
	Groups       []string          `json:"groups,omitempty"`
	LoginProfile bool              `json:"login_profile,omitempty"`
	MFA          []string          `json:"mfa,omitempty"`
	SSHKeys      []string          `json:"ssh_keys,omitempty"`
	ServiceCreds []string          `json:"service_creds,omitempty"`
	Certificates []string          `json:"certificates,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
}

// Key is a long-term access key.
type Key struct {
	ID       string     `json:"id"`
	User     string     `json:"user"`
	Status   string     `json:"status"`
	Created  time.Time  `json:"created"`
	Deleted  *time.Time `json:"deleted,omitempty"`
	MintedBy string     `json:"minted_by"` // scenario, engine, malicious, unknown
}

// Role is an IAM role.
type Role struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Created    time.Time         `json:"created"`
	Trust      string            `json:"trust"`
	MaxSeconds int               `json:"max_seconds"`
	Inline     map[string]string `json:"inline,omitempty"`
	Attached   []string          `json:"attached,omitempty"`
}

// Group is an IAM group.
type Group struct {
	Name     string            `json:"name"`
	ID       string            `json:"id"`
	Created  time.Time         `json:"created"`
	Inline   map[string]string `json:"inline,omitempty"`
	Attached []string          `json:"attached,omitempty"`
}

// Kinds of session.
const (
	AssumedRole    = "assumed-role"
	SessionToken   = "session-token"
	FederatedToken = "federated"
)

// Session is a set of temporary credentials.
type Session struct {
	ID      string    `json:"id"` // ASIA…
	Kind    string    `json:"kind"`
	Parent  string    `json:"parent"` // key id that asked for it
	User    string    `json:"user,omitempty"`
	Role    string    `json:"role,omitempty"`
	Name    string    `json:"name"` // session name, or federated user name
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	Policy  string    `json:"policy,omitempty"`
	Engine  bool      `json:"engine,omitempty"`
}

// Version of a stored secret.
type Version struct {
	ID      string    `json:"id"`
	Sealed  []byte    `json:"sealed"`
	Created time.Time `json:"created"`
	Stages  []string  `json:"stages,omitempty"`
}

// StoredSecret is a Secrets Manager secret.
type StoredSecret struct {
	Name     string     `json:"name"`
	ARN      string     `json:"arn"`
	Created  time.Time  `json:"created"`
	Changed  time.Time  `json:"changed"`
	Versions []*Version `json:"versions"`
}

// State is everything the account holds. Its objects are never changed, only replaced (see the
// change… functions): what the replica, a pending change and the account itself point to may be
// the same object.
type State struct {
	Users    map[string]*User         `json:"users"`
	Keys     map[string]*Key          `json:"keys"`
	Roles    map[string]*Role         `json:"roles"`
	Groups   map[string]*Group        `json:"groups"`
	Sessions map[string]*Session      `json:"sessions"`
	Secrets  map[string]*StoredSecret `json:"secrets"`
	Rules    map[string]*Rule         `json:"rules"`
	Counter  int64                    `json:"counter"` // ids made so far
}

func newState() *State {
	return &State{
		Users: map[string]*User{}, Keys: map[string]*Key{}, Roles: map[string]*Role{},
		Groups: map[string]*Group{}, Sessions: map[string]*Session{}, Secrets: map[string]*StoredSecret{}, Rules: map[string]*Rule{},
	}
}

// Put is one changed object: what the effect log carries and what the replica applies later.
type Put struct {
	Kind  string          `json:"kind"` // user key role group session secret counter rule
	ID    string          `json:"id"`
	Value json.RawMessage `json:"value,omitempty"` // absent = gone

	object any // what Value says; nil where the Put was read from a file, or the object is gone
}

// apply sets one object.
func (s *State) apply(p Put) error {
	switch p.Kind {
	case "user":
		return set(s.Users, p)
	case "key":
		return set(s.Keys, p)
	case "role":
		return set(s.Roles, p)
	case "group":
		return set(s.Groups, p)
	case "session":
		return set(s.Sessions, p)
	case "secret":
		return set(s.Secrets, p)
	case "rule":
		return set(s.Rules, p)
	case "counter":
		return json.Unmarshal(p.Value, &s.Counter)
	default:
		return fmt.Errorf("unknown kind %q in the effect log", p.Kind)
	}
}

func set[T any](m map[string]*T, p Put) error {
	if p.Value == nil {
		delete(m, p.ID)
		return nil
	}
	if v, ok := p.object.(*T); ok {
		m[p.ID] = v
		return nil
	}
	v := new(T)
	if err := json.Unmarshal(p.Value, v); err != nil {
		return err
	}
	m[p.ID] = v
	return nil
}

// object gives the current value of one object as a Put.
func (s *State) object(kind, id string) Put {
	p := s.share(kind, id)
	if p.object != nil {
		p.Value = marshal(p.object)
	}
	return p
}

// present stands for the value of a Put whose object is at hand.
var present = json.RawMessage("null")

// share gives one object as a Put without writing it out.
func (s *State) share(kind, id string) Put {
	var v any
	var ok bool
	switch kind {
	case "user":
		v, ok = has(s.Users, id)
	case "key":
		v, ok = has(s.Keys, id)
	case "role":
		v, ok = has(s.Roles, id)
	case "group":
		v, ok = has(s.Groups, id)
	case "session":
		v, ok = has(s.Sessions, id)
	case "secret":
		v, ok = has(s.Secrets, id)
	case "rule":
		v, ok = has(s.Rules, id)
	case "counter":
		v, ok = s.Counter, true
	}
	p := Put{Kind: kind, ID: id}
	if ok {
		p.Value, p.object = present, v
	}
	return p
}

// ids gives the ids of everything there is, by kind.
func (s *State) ids() map[string]iter.Seq[string] {
	return map[string]iter.Seq[string]{
		"user": maps.Keys(s.Users), "key": maps.Keys(s.Keys), "role": maps.Keys(s.Roles), "group": maps.Keys(s.Groups),
		"session": maps.Keys(s.Sessions), "secret": maps.Keys(s.Secrets), "rule": maps.Keys(s.Rules), "counter": func(yield func(string) bool) { yield("") },
	}
}

func has[T any](m map[string]*T, id string) (any, bool) {
	v, ok := m[id]
	return v, ok
}

// The change… functions put a copy in the place of an object and give it to be changed: nobody
// else has it yet. The call is noted to have touched it.

func (s *Sim) changeUser(c *call, u *User) *User {
	n := *u
	n.Inline, n.Attached = maps.Clone(u.Inline), slices.Clone(u.Attached)
	s.live.Users[n.Name] = &n
	c.touch("user", n.Name)
	return &n
}

func (s *Sim) changeKey(c *call, k *Key) *Key {
	n := *k
	s.live.Keys[n.ID] = &n
	c.touch("key", n.ID)
	return &n
}

func (s *Sim) changeRole(c *call, r *Role) *Role {
	n := *r
	n.Inline, n.Attached = maps.Clone(r.Inline), slices.Clone(r.Attached)
	s.live.Roles[n.Name] = &n
	c.touch("role", n.Name)
	return &n
}

// keysOf lists the keys of a user that are not deleted, oldest first.
func (s *Sim) keysOf(user string) []*Key {
	var out []*Key
	for _, id := range s.byUser[user] {
		if k := s.live.Keys[id]; k.Status != Deleted {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b *Key) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return out
}

// index keeps user -> key ids, so that ListAccessKeys does not walk a large account.
func (s *Sim) index(k *Key) {
	if !slices.Contains(s.byUser[k.User], k.ID) {
		s.byUser[k.User] = append(s.byUser[k.User], k.ID)
	}
}

// names keeps the names of one kind of object in order, for listings. Making or deleting an object
// drops them; the next listing sorts anew.
type names struct{ sorted []string }

func (n *names) drop() { n.sorted = nil }

func inOrder[T any](n *names, m map[string]*T) []string {
	if len(n.sorted) != len(m) {
		n.sorted = slices.Sorted(maps.Keys(m))
	}
	return n.sorted
}
