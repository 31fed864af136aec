package slackapp

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"rekey/internal/nearest"
	"rekey/internal/statement"
	"rekey/playbooks"
)

// Verbs of /rekey.
const (
	verbReport  = "report"
	verbStatus  = "status"
	verbList    = "list"
	verbPlan    = "plan"
	verbApprove = statement.Approve
	verbDeny    = statement.Deny
	verbHold    = statement.Hold
	verbRelease = statement.Release
	verbUpload  = "upload"
	verbHelp    = "help"
)

// A usage is a verb with what to type. docs/slack and the manifests repeat it; a test
// holds them together.
type usage struct{ verb, form, what string }

// usages in the order of help.
func usages() []usage {
	return []usage{
		{verbReport, "report PROVIDER[/KIND] KEY-ID [severity=high] [confidence=confirmed] [account=NAME] [exposure=public] [reason…]", "report a leaked key, by its public id"},
		{verbStatus, "status INCIDENT", "where a response stands and who must do what"},
		{verbList, "list [open|contained|all-clear]", "the incidents"},
		{verbPlan, "plan INCIDENT  or  plan PROVIDER[/KIND] KEY-ID [account=NAME]", "what rekey would do, and who breaks"},
		{verbApprove, "approve INCIDENT APPROVAL", "vote for a wave as it was shown; APPROVAL is a1, a2, … or the wave's hash"},
		{verbDeny, "deny INCIDENT APPROVAL reason…", "vote against it"},
		{verbHold, "hold INCIDENT ITEM[,ITEM…]|all [until=4h] reason…", "keep items from moving"},
		{verbRelease, "release INCIDENT HOLD [reason…]", "end a hold"},
		{verbUpload, "upload PROVIDER[/KIND] KEY-ID [account=NAME]", "a link to hand over a key's secret, once"},
		{verbHelp, "help", "this list"},
	}
}

func usageOf(verb string) usage {
	for _, u := range usages() {
		if u.verb == verb {
			return u
		}
	}
	return usage{}
}

// elsewhere are words of the command line that Slack does not carry: what is decided
// by them needs a person's own key.
var elsewhere = []string{"restore", "resolve", "close", "accept", "accept-risk", "break-glass", "export", "audit", "keys", "login", "token"}

var synonyms = map[string]string{
	"show": verbStatus, "ls": verbList, "incidents": verbList, "reject": verbDeny, "unhold": verbRelease, "?": verbHelp, "": verbHelp, "-h": verbHelp, "--help": verbHelp,
}

// A command is what somebody typed behind /rekey. Nothing in it was checked beyond its
// form.
type command struct {
	verb                           string
	provider, kind, account, keyID string
	severity, confidence, exposure string
	incident                       string
	approval, hash                 string // hash: "sha256:" and 12 to 64 hex digits
	items                          []string
	hold                           string
	state                          string
	until                          time.Duration
	reason                         string
}

// A hint says what is wrong and what to type instead. Nothing of what was typed is
// repeated: it may be a secret.
type hint struct{ say, form string }

// wrong is a hint as the parser's error.
type wrong struct{ hint }

func (w *wrong) Error() string { return w.say + ": /rekey " + w.form }

const (
	maxCommand  = 16 << 10
	defaultHold = 4 * time.Hour
	maxHold     = 30 * 24 * time.Hour
)

var (
	incidentRE = regexp.MustCompile(`^inc-[0-9a-f]{12}$`)
	approvalRE = regexp.MustCompile(`^a[1-9][0-9]{0,5}$`)
	hashRE     = regexp.MustCompile(`^(?:sha256:)?([0-9a-f]{12,64})$`)
	codeRE     = regexp.MustCompile(`^[a-z][a-z0-9]{0,31}$`)
	kindRE     = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
	wordRE     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	holdRE     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
)

// unescape undoes what Slack does to typed text (&, <, > as entities:
// https://docs.slack.dev/messaging/formatting-message-text#escaping) and what phones
// do to quotes and spaces.
var unescape = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&", "\u00a0", " ", "\u202f", " ", "“", `"`, "”", `"`, "’", "'", "‘", "'")

// parse reads a command. Its error is a *wrong.
func parse(text string) (command, error) {
	if len(text) > maxCommand {
		return command{}, &wrong{hint{"that is too long for a command; put long texts into evidence files of `rekey report`", verbHelp}}
	}
	words := strings.Fields(unescape.Replace(strings.ToValidUTF8(text, "\uFFFD")))
	for i := range words {
		words[i] = strings.Trim(words[i], "`\"*")
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	if len(words) == 0 {
		return command{verb: verbHelp}, nil
	}
	verb := strings.ToLower(words[0])
	if v, ok := synonyms[verb]; ok {
		verb = v
	}
	rest := words[1:]
	read := map[string]func([]string) (command, error){
		verbReport: parseReport, verbPlan: parsePlan, verbStatus: parseStatus, verbList: parseList,
		verbApprove: parseVote(verbApprove), verbDeny: parseVote(verbDeny), verbHold: parseHold, verbRelease: parseRelease,
		verbUpload: parseUpload, verbHelp: func([]string) (command, error) { return command{}, nil },
	}[verb]
	if read == nil {
		return command{}, unknownVerb(verb)
	}
	c, err := read(rest)
	c.verb = verb
	return c, err
}

func unknownVerb(verb string) error {
	if slices.Contains(elsewhere, verb) {
		return &wrong{hint{"this is not decided in Slack: use the command line, `rekey incident " + verb + "`, with your own key. Here you can type", verbHelp}}
	}
	var verbs []string
	for _, u := range usages() {
		verbs = append(verbs, u.verb)
	}
	if n := nearest.Word(verb, verbs); n != "" {
		return &wrong{hint{"there is no such command; did you mean `" + n + "`? Type", usageOf(n).form}}
	}
	return &wrong{hint{"there is no such command; all of them are shown by", verbHelp}}
}

// missing says what a verb needs.
func missing(verb, say string) error { return &wrong{hint{say + ". Type", usageOf(verb).form}} }

// incident reads an incident's id in the forms in which people copy it.
func incident(verb, word string) (string, error) {
	id := strings.TrimPrefix(strings.ToLower(word), "incident/")
	if !incidentRE.MatchString(id) {
		return "", missing(verb, "an incident's id is inc- and 12 digits or letters a to f, as /rekey list shows it")
	}
	return id, nil
}

// key reads PROVIDER[/KIND] KEY-ID.
func key(verb string, words []string) (command, []string, error) {
	var c command
	if len(words) < 1 {
		return c, nil, missing(verb, "say which provider and which key")
	}
	provider, kind, _ := strings.Cut(strings.ToLower(words[0]), "/")
	if !codeRE.MatchString(provider) || (kind != "" && !kindRE.MatchString(kind)) {
		return c, nil, missing(verb, "the provider comes first, such as awsiam or awsiam/user-access-key")
	}
	if len(words) < 2 {
		return c, nil, missing(verb, "the key's public id is missing (never its secret)")
	}
	id := words[1]
	if strings.ContainsFunc(id, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return c, nil, missing(verb, "the key id holds characters that cannot be seen; type it, or copy it again from the provider")
	}
	c.provider, c.kind, c.keyID = provider, kind, id
	return c, words[2:], nil
}

// options takes name=value words from the front; from the first other word on
// everything is the reason.
func options(verb string, words []string, take map[string]*string) (string, error) {
	names := make([]string, 0, len(take))
	for n := range take {
		names = append(names, n)
	}
	slices.Sort(names)
	for i, w := range words {
		name, value, ok := strings.Cut(w, "=")
		name = strings.ToLower(name)
		to := take[name]
		switch {
		case !ok:
			return strings.Join(words[i:], " "), nil
		case to == nil:
			if n := nearest.Word(name, names); n != "" {
				return "", missing(verb, "did you mean "+n+"=?")
			}
			return strings.Join(words[i:], " "), nil
		case !wordRE.MatchString(value):
			return "", missing(verb, "the value of "+name+"= is missing or cannot be used")
		}
		*to = value
	}
	return "", nil
}

func parseReport(words []string) (command, error) {
	c, rest, err := key(verbReport, words)
	if err != nil {
		return c, err
	}
	c.reason, err = options(verbReport, rest, map[string]*string{
		"severity": &c.severity, "confidence": &c.confidence, "account": &c.account, "exposure": &c.exposure,
	})
	c.severity, c.confidence, c.exposure = strings.ToLower(c.severity), strings.ToLower(c.confidence), strings.ToLower(c.exposure)
	return c, err
}

func parseUpload(words []string) (command, error) { return keyOnly(verbUpload, words) }

func keyOnly(verb string, words []string) (command, error) {
	c, rest, err := key(verb, words)
	if err != nil {
		return c, err
	}
	more, err := options(verb, rest, map[string]*string{"account": &c.account})
	if err == nil && more != "" {
		err = missing(verb, "there is something behind the key id")
	}
	return c, err
}

func parsePlan(words []string) (command, error) {
	if len(words) == 0 {
		return command{}, missing(verbPlan, "say which incident, or which key")
	}
	if len(words) == 1 || strings.HasPrefix(strings.ToLower(words[0]), "inc") {
		id, err := incident(verbPlan, words[0])
		return command{incident: id}, err
	}
	return keyOnly(verbPlan, words)
}

func parseStatus(words []string) (command, error) {
	if len(words) == 0 {
		return command{}, missing(verbStatus, "say which incident; /rekey list shows them")
	}
	id, err := incident(verbStatus, words[0])
	return command{incident: id}, err
}

func parseList(words []string) (command, error) {
	if len(words) == 0 {
		return command{state: "open"}, nil
	}
	state := strings.ToLower(words[0])
	switch state {
	case "all":
		state = ""
	case "open", "contained", "all-clear":
	default:
		return command{}, missing(verbList, "the states are open, contained and all-clear; `all` shows every one")
	}
	return command{state: state}, nil
}

func parseVote(verb string) func([]string) (command, error) {
	return func(words []string) (command, error) {
		if len(words) == 0 {
			return command{}, missing(verb, "say which incident")
		}
		id, err := incident(verb, words[0])
		if err != nil {
			return command{}, err
		}
		c := command{incident: id}
		rest := words[1:]
		for len(rest) > 0 {
			w := strings.ToLower(rest[0])
			m := hashRE.FindStringSubmatch(w)
			switch {
			case c.approval == "" && approvalRE.MatchString(w):
				c.approval = w
			case c.hash == "" && m != nil:
				c.hash = "sha256:" + m[1]
			default:
				c.reason = strings.Join(rest, " ")
				rest = nil
				continue
			}
			rest = rest[1:]
		}
		if verb == verbDeny && c.reason == "" && (c.approval != "" || c.hash != "") {
			return c, missing(verb, "a denial needs a reason")
		}
		return c, nil
	}
}

func parseHold(words []string) (command, error) {
	if len(words) == 0 {
		return command{}, missing(verbHold, "say which incident")
	}
	id, err := incident(verbHold, words[0])
	if err != nil {
		return command{}, err
	}
	c := command{incident: id, until: defaultHold}
	rest := words[1:]
	for len(rest) > 0 { // "a, b" is one list, as "a,b" is
		more := strings.HasSuffix(rest[0], ",")
		for item := range strings.SplitSeq(rest[0], ",") {
			if item == "" {
				continue
			}
			if !wordRE.MatchString(item) {
				return c, missing(verbHold, "name the items by their short ids, as /rekey status shows them")
			}
			c.items = append(c.items, item)
		}
		rest = rest[1:]
		if !more {
			break
		}
	}
	until := ""
	if c.reason, err = options(verbHold, rest, map[string]*string{"until": &until}); err != nil {
		return c, err
	}
	if until != "" {
		d, err := playbooks.ParseDuration(until)
		if err != nil || d <= 0 || d.Std() > maxHold {
			return c, missing(verbHold, "until= is a span such as 2h or 7d, at most 30d")
		}
		c.until = d.Std()
	}
	switch {
	case len(c.items) == 0:
		return c, missing(verbHold, "name the items, or say all")
	case c.reason == "":
		return c, missing(verbHold, "a hold needs a reason")
	}
	return c, nil
}

func parseRelease(words []string) (command, error) {
	if len(words) == 0 {
		return command{}, missing(verbRelease, "say which incident")
	}
	id, err := incident(verbRelease, words[0])
	if err != nil {
		return command{}, err
	}
	if len(words) < 2 || !holdRE.MatchString(strings.ToLower(words[1])) {
		return command{}, missing(verbRelease, "name the hold, such as hold1; /rekey status shows them")
	}
	return command{incident: id, hold: strings.ToLower(words[1]), reason: strings.Join(words[2:], " ")}, nil
}
