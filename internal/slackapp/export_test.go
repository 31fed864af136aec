package slackapp

import "time"

// Quick is how long an acknowledgement waits for the answer.
const Quick = quick

// Pace says how long an acknowledgement waits for the answer, and an end for the work.
func (a *App) Pace(quick, grace time.Duration) { a.quick, a.grace = quick, grace }

// Bodies bounds what is read before anybody is authenticated.
func (a *App) Bodies(most int, takes time.Duration) { a.bodies.most, a.bodies.takes = most, takes }

// Reading is how many bodies are being read.
func (a *App) Reading() int {
	a.bodies.mu.Lock()
	defer a.bodies.mu.Unlock()
	return len(a.bodies.open)
}

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
