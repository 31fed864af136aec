package intake

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"rekey/activities"
	"rekey/internal/api"
	"rekey/internal/canon"
	"rekey/internal/config"
	"rekey/internal/nearest"
	"rekey/internal/secret"
	"rekey/playbooks"
)

// Bounds of a report.
const (
	maxKeyID        = 512
	maxReason       = 4000
	maxSecret       = 64 << 10
	maxEvidenceFile = 8 << 20
	maxEvidence     = 16 << 20
	maxFiles        = 20
	maxFileName     = 255
	maxPlaybook     = 1 << 20
	maxCopies       = 20
)

// checked is a report that can be taken.
type checked struct {
	who      Caller
	req      api.ReportRequest
	id       string
	nonce    string
	key      activities.Key
	alias    string
	secret   secret.Value
	origin   string
	evidence []file

	source, ceiling, confidence, exposure, severity, reason string
	received, claimed                                       time.Time
}

type file struct {
	name string
	data []byte
}

var (
	nonceRE  = regexp.MustCompile(`^[A-Za-z0-9_-]{8,128}$`)
	sourceRE = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)
	// A place, or a place as of a day or time in UTC (docs/estate.md).
	placeRE = regexp.MustCompile(`^[a-z0-9][A-Za-z0-9/_.:-]{0,199}(@\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{1,3})?Z)?)?$`)
)

// check looks at everything before anything is stored.
func (in *Intake) check(who Caller, req api.ReportRequest) (*checked, error) {
	c := &checked{who: who, req: req, nonce: req.Nonce, received: in.Now().UTC().Truncate(time.Millisecond)}
	if !nonceRE.MatchString(req.Nonce) || in.recognise.looksSecret(req.Nonce) {
		return nil, malformed("give 8 to 128 letters, digits, dashes or underscores, new for each report and the same when it is sent again", "the nonce is missing or malformed")
	}
	for _, step := range []func(*checked) error{in.checkKey, in.checkWords, in.checkTimes, in.checkSecret, in.checkEvidence} {
		if err := step(c); err != nil {
			c.secret.Destroy()
			return nil, err
		}
	}
	// The same request again is the same report; another caller's nonce, or
	// another key, is not.
	id := canon.Hash([]byte(strings.Join([]string{who.Source, who.Actor, req.Nonce, c.key.FP}, "\x00")))
	c.id = "r-" + strings.TrimPrefix(id, "sha256:")[:16]
	return c, nil
}

func (in *Intake) checkKey(c *checked) error {
	req := c.req
	i := slices.IndexFunc(in.Providers, func(d activities.Descriptor) bool { return d.Code == req.Provider })
	if i < 0 {
		var codes []string
		for _, d := range in.Providers {
			codes = append(codes, d.Code)
		}
		if n := nearest.Word(req.Provider, codes); n != "" {
			return malformed(fmt.Sprintf("did you mean %q?", n), "there is no such provider")
		}
		return malformed("give one of "+strings.Join(codes, ", ")+" (`rekey provider list`)", "there is no such provider")
	}
	d := in.Providers[i]
	kind, err := in.keyKind(d, req)
	if err != nil {
		return err
	}
	account, err := in.account(req)
	if err != nil {
		return err
	}
	if c.origin, err = in.Origin(d.Code, account); err != nil {
		return malformed("mend providers."+d.Code+"."+account.Name+".base_url in rekey.yaml", "the account's base URL cannot be used")
	}
	c.key = activities.Key{Provider: d.Code, Account: account.Name, Kind: kind, ID: req.KeyID}
	if c.key.FP, err = in.Fingerprints.Public(d.Code, account.Name, kind, req.KeyID); err != nil {
		return malformed("give the id as the provider shows it", "the key id cannot be used")
	}
	return nil
}

// keyKind checks the key id without ever repeating it: it may be a secret that
// was pasted into the wrong place.
func (in *Intake) keyKind(d activities.Descriptor, req api.ReportRequest) (string, error) {
	id := req.KeyID
	if id == "" {
		return "", malformed("give the id as the provider shows it", "the key id is missing")
	}
	if len(id) > maxKeyID || !utf8.ValidString(id) || hasControl(id) {
		return "", malformed("give the id as the provider shows it, on one line", "the key id is not one")
	}
	secretInstead := malformed("give the key's public id; the secret itself goes through --secret-stdin. Treat it as exposed where you typed it", "what was given as key id looks like a secret")
	if in.recognise.looksSecret(id) {
		return "", secretInstead
	}
	kind := req.Kind
	if d.CheckID != nil {
		found, err := d.CheckID(id)
		switch {
		case err != nil && strings.Contains(err.Error(), "looks like a secret"):
			return "", secretInstead
		case err != nil && !strings.Contains(err.Error(), id):
			return "", malformed("give the id as the provider shows it", "%s", err)
		case err != nil:
			return "", malformed("give the id as the provider shows it", "this is no key id of %s", d.Name)
		case kind != "" && kind != found:
			return "", malformed(fmt.Sprintf("leave the kind out, or write %s/%s", d.Code, found), "this key id is of another kind")
		}
		kind = found
	}
	if _, ok := d.Kind(kind); !ok {
		var kinds []string
		for _, k := range d.Kinds {
			kinds = append(kinds, k.Kind)
		}
		return "", malformed("give one of "+strings.Join(kinds, ", "), "%s has no such kind of credential", d.Name)
	}
	return kind, nil
}

// account finds the configured account: the one that is named, or the only one.
func (in *Intake) account(req api.ReportRequest) (activities.Account, error) {
	names := in.Config.Accounts(req.Provider)
	name := req.Account
	switch {
	case len(names) == 0:
		return activities.Account{}, malformed("add providers."+req.Provider+".<account> to rekey.yaml (`rekey provider show "+req.Provider+"` says what it needs)", "no account of this provider is configured")
	case name == "" && len(names) == 1:
		name = names[0]
	case name == "":
		return activities.Account{}, malformed("say which with --account: "+strings.Join(names, ", "), "several accounts of this provider are configured")
	case !slices.Contains(names, name):
		do := "configured: " + strings.Join(names, ", ")
		if n := nearest.Word(name, names); n != "" {
			do = fmt.Sprintf("did you mean %q?", n)
		}
		return activities.Account{}, malformed(do, "there is no such account of this provider")
	}
	a, err := in.Config.Account(req.Provider, name)
	if err != nil {
		return a, malformed("check rekey.yaml", "the account is not configured")
	}
	return a, nil
}

// checkWords takes the words of the request that are chosen from a list, and the
// source. What the caller calls its source can lower what it may cause, never
// raise it.
func (in *Intake) checkWords(c *checked) error {
	req := c.req
	oneOf := func(what, got, def string, words ...string) (string, error) {
		switch {
		case got == "":
			return def, nil
		case slices.Contains(words, got):
			return got, nil
		}
		return "", malformed("give one of "+strings.Join(words, ", "), "the %s is not known", what)
	}
	var err error
	confidence := "suspected"
	if c.who.SourceKind == "cli" || c.who.SourceKind == "person" {
		confidence = "confirmed"
	}
	if c.confidence, err = oneOf("confidence", req.Confidence, confidence, "sample", "suspected", "confirmed"); err != nil {
		return err
	}
	if c.exposure, err = oneOf("exposure", req.Exposure, "", "public", "internal", "private", "unknown"); err != nil {
		return err
	}
	if c.exposure == "unknown" {
		c.exposure = "" // a fact that is not there
	}
	var levels []string
	for _, l := range playbooks.Levels() {
		levels = append(levels, string(l))
	}
	if c.severity, err = oneOf("severity", req.Severity, "", levels...); err != nil {
		return err
	}
	c.source = c.who.Source
	c.ceiling = in.Config.SourceCeiling(c.who.Source)
	if req.Source != "" {
		if !sourceRE.MatchString(req.Source) || in.recognise.looksSecret(req.Source) {
			return malformed("write a short name in lower case, such as github or outsider", "the source is not a name")
		}
		c.source = req.Source
		if in.Config.SourceCeiling(req.Source) == config.CeilingPropose {
			c.ceiling = config.CeilingPropose
		}
	}
	if len(req.Reason) > maxReason || !utf8.ValidString(req.Reason) {
		return malformed("put the rest into an evidence file", "the reason is longer than %d bytes, or is not text", maxReason)
	}
	c.reason = req.Reason
	if len(req.Copies) > maxCopies || slices.ContainsFunc(req.Copies, func(p string) bool { return !placeRE.MatchString(p) || in.recognise.looksSecret(p) }) {
		return malformed("name at most 20 places such as slack/T0123/C0456, without the secret", "a copy's place cannot be used")
	}
	if len(req.Playbook) > maxPlaybook {
		return malformed("a playbook has at most 1 MiB", "the playbook is too large")
	}
	if req.Playbook != "" && req.PlaybookName != "" {
		return malformed("give one of them", "both a playbook's text and a playbook's name are given")
	}
	return nil
}

func (in *Intake) checkTimes(c *checked) error {
	c.claimed = c.req.Claimed.UTC().Truncate(time.Millisecond)
	if c.req.Claimed.IsZero() {
		c.claimed = time.Time{}
	}
	if c.claimed.After(c.received.Add(5 * time.Minute)) {
		return malformed("give the time since when the key is said to be out", "the claimed time is in the future")
	}
	return nil
}

func (in *Intake) checkSecret(c *checked) error {
	if c.req.Secret == "" {
		return nil
	}
	if base64.StdEncoding.DecodedLen(len(c.req.Secret)) > maxSecret+3 {
		return malformed("give the secret alone", "the secret is larger than 64 KiB")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(c.req.Secret)
	defer clear(raw)
	if err != nil || len(raw) == 0 || len(raw) > maxSecret {
		return malformed("give it in base64 (RFC 4648 section 4), without line breaks", "the secret cannot be read")
	}
	if string(raw) == c.req.KeyID {
		return malformed("give the secret that belongs to the key id, or leave it out", "the secret is the key id itself")
	}
	c.secret = secret.New(raw)
	if c.alias, err = in.Fingerprints.Alias(c.key.Provider, c.key.Account, c.key.Kind, c.secret); err != nil {
		return malformed("leave the secret out", "the secret cannot be used")
	}
	return nil
}

func (in *Intake) checkEvidence(c *checked) error {
	if len(c.req.Evidence) > maxFiles {
		return malformed("put them into one archive", "more than %d evidence files", maxFiles)
	}
	total := 0
	for _, e := range c.req.Evidence {
		name := filepath.Base(filepath.ToSlash(e.Name))
		if e.Name == "" || name == "." || name == "/" || len(name) > maxFileName || hasControl(name) || !utf8.ValidString(name) {
			return malformed("give each file a plain name", "an evidence file has no usable name")
		}
		if base64.StdEncoding.DecodedLen(len(e.Data)) > maxEvidenceFile+3 {
			return malformed("keep the part that shows the key", "an evidence file is larger than %d MiB", maxEvidenceFile>>20)
		}
		data, err := base64.StdEncoding.Strict().DecodeString(e.Data)
		if err != nil {
			return malformed("give its bytes in base64", "an evidence file cannot be read")
		}
		if total += len(data); total > maxEvidence || len(data) > maxEvidenceFile {
			return malformed("keep the parts that show the key", "the evidence is larger than %d MiB", maxEvidence>>20)
		}
		c.evidence = append(c.evidence, file{name, data})
	}
	return nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || (r >= 0x7f && r < 0xa0) })
}
