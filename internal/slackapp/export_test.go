package slackapp

import "time"

// Hurry shortens what tests would wait for.
func (a *App) Hurry(quick, grace time.Duration) { a.quick, a.grace = quick, grace }

// Parse is the parser, for the fuzzer: the words that a command is made of, and what
// is told to whoever typed something else.
func Parse(text string) (verb string, fields []string, said string) {
	c, err := parse(text)
	fields = append([]string{c.provider, c.kind, c.account, c.keyID, c.severity, c.confidence, c.exposure, c.incident, c.approval, c.hash, c.hold, c.state}, c.items...)
	if err != nil {
		said = err.Error()
	}
	return c.verb, fields, said
}

// Forms are what help shows.
func Forms() []string {
	var out []string
	for _, u := range usages() {
		out = append(out, u.form)
	}
	return out
}
