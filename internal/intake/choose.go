package intake

import (
	"fmt"
	"strings"

	"rekey/internal/nearest"
	"rekey/internal/playbook"
	"rekey/playbooks"
)

// A candidate is a playbook that can be used as it is.
type candidate struct {
	pb     *playbooks.Playbook
	digest string
	eval   *playbook.Evaluator
}

func newCandidate(pb *playbooks.Playbook, digest string) (*candidate, error) {
	e, err := playbook.NewEvaluator(pb)
	return &candidate{pb, digest, e}, err
}

// candidates are the playbooks of rekey.yaml and then those of this build, in their
// order. A shipped one is tightened to the ceilings: a report is never refused
// because a shipped playbook asks for fewer votes than rekey.yaml. One of rekey.yaml
// that may not run is an error: nothing must start without it by mistake.
func (in *Intake) candidates() ([]*candidate, error) {
	c := in.Config
	var out []*candidate
	for _, file := range c.Playbooks.Files {
		l, err := playbook.Load(file, playbook.WithProviders(playbook.Descriptors(in.Providers)))
		if err != nil {
			return nil, fmt.Errorf("playbooks.files: %w", err)
		}
		digest, over, err := in.mayRun(l.Playbook)
		if err != nil {
			return nil, fmt.Errorf("playbooks.files: %s: %w", file, err)
		}
		if over.Failed() {
			return nil, fmt.Errorf("playbooks.files: %s exceeds the ceilings of rekey.yaml: %w; to pin this very text add %s to ceilings.playbook_digests", file, over.Err(), digest)
		}
		one, err := newCandidate(l.Playbook, digest)
		if err != nil {
			return nil, fmt.Errorf("playbooks.files: %s: %w", file, err)
		}
		out = append(out, one)
	}
	for _, name := range playbook.Shipped() {
		l, err := playbook.Load(name)
		if err != nil {
			return nil, fmt.Errorf("intake: %w", err)
		}
		tighten(l.Playbook, c.Ceilings.Irreversible.Quorum)
		one, err := newCandidate(l.Playbook, l.Digest)
		if err != nil {
			return nil, fmt.Errorf("intake: %w", err)
		}
		out = append(out, one)
	}
	return out, nil
}

// tighten raises the votes for what cannot be taken back to the ceiling.
func tighten(pb *playbooks.Playbook, quorum int) {
	for _, name := range []string{playbooks.ApproveIrreversible, playbooks.ApproveRung, playbooks.ApproveRestore} {
		if a, ok := pb.Approvals[name]; ok && a.Quorum < quorum {
			a.Quorum = quorum
			pb.Approvals[name] = a
		}
	}
}

// choose gives the playbook of a report: the text given, the name given, the
// first one that matches, or the one that waits for a person.
func (in *Intake) choose(c *checked) (*candidate, error) {
	switch {
	case c.req.Playbook != "":
		return in.given(c)
	case c.req.PlaybookName != "":
		return in.byName(c)
	}
	evaluators := make([]*playbook.Evaluator, len(in.shipped))
	for i, s := range in.shipped {
		evaluators[i] = s.eval
	}
	match, err := playbook.Select(evaluators, facts(c))
	if err != nil { // names playbooks whose condition failed; the next one was asked
		in.Log.Warn("a playbook's match failed", "report", c.id, "error", err)
	}
	for i, e := range evaluators {
		if e == match {
			return in.shipped[i], nil
		}
	}
	return waiting(c, in.Config.Ceilings.Irreversible.Quorum)
}

func (in *Intake) byName(c *checked) (*candidate, error) {
	for _, s := range in.shipped {
		if s.pb.Name == c.req.PlaybookName {
			return s, fits(s.pb, c)
		}
	}
	var names []string
	for _, s := range in.shipped {
		names = append(names, s.pb.Name)
	}
	if n := nearest.Word(c.req.PlaybookName, names); n != "" {
		return nil, malformed(fmt.Sprintf("did you mean %q?", n), "there is no playbook of that name")
	}
	return nil, malformed("give one of "+strings.Join(names, ", ")+", or the file", "there is no playbook of that name")
}

// given takes a playbook's text. Outside the lab only a text whose digest is
// pinned in rekey.yaml, or that this build ships, may run; who sends it does not
// matter.
func (in *Intake) given(c *checked) (*candidate, error) {
	pb, problems := playbook.Parse("playbook.yaml", []byte(c.req.Playbook), playbook.WithProviders(playbook.Descriptors(in.Providers)))
	if err := problems.Err(); err != nil {
		return nil, malformed("mend it; `rekey playbook validate` shows the same", "the playbook is not valid: %s", err)
	}
	digest, over, err := in.mayRun(pb)
	if err != nil {
		return nil, malformed("mend it; `rekey playbook validate` shows more", "the playbook is not valid")
	}
	if over.Failed() {
		return nil, forbidden(
			"loosening needs rekey.yaml: to pin this very text add "+digest+" to ceilings.playbook_digests; it can only tighten the other ceilings",
			"the playbook exceeds the ceilings of rekey.yaml: %s", over.Err())
	}
	if err := fits(pb, c); err != nil {
		return nil, err
	}
	one, err := newCandidate(pb, digest)
	if err != nil {
		return nil, malformed("mend it; `rekey playbook validate` shows more", "the playbook's conditions cannot be used")
	}
	return one, nil
}

// mayRun gives the digest of a playbook and what of it exceeds the ceilings of
// rekey.yaml.
func (in *Intake) mayRun(pb *playbooks.Playbook) (digest string, over playbook.Problems, err error) {
	if digest, err = playbook.DigestOf(pb); err != nil {
		return "", nil, err
	}
	return digest, playbook.CheckCeilings(pb, playbook.Ceilings{
		Irreversible: playbook.Quorum{Quorum: in.Config.Ceilings.Irreversible.Quorum, OutsideSlack: in.Config.Ceilings.Irreversible.OutsideSlack},
		Pinned:       !in.Lab,
		Pins:         map[string][]string{pb.Name: in.Config.Ceilings.PlaybookDigests},
	}), nil
}

// fits refuses a playbook that is for something else than the key.
func fits(pb *playbooks.Playbook, c *checked) error {
	for _, k := range pb.Match.Kinds {
		if pb.Match.Provider == c.key.Provider && k == c.key.Kind {
			return nil
		}
	}
	return malformed("leave the playbook out, and the first that matches is used",
		"playbook %s is for %s/%s, the key is %s/%s", pb.Name, pb.Match.Provider, strings.Join(pb.Match.Kinds, "|"), c.key.Provider, c.key.Kind)
}

// facts are what is known of a report before anything was looked at. Whether a
// given secret is the key's is not known yet; without one there is no possession.
func facts(c *checked) playbooks.Facts {
	var f playbooks.Facts
	for name, v := range map[string]string{
		"confidence": c.confidence, "source": c.source, "source_kind": c.who.SourceKind,
		"provider": c.key.Provider, "kind": c.key.Kind, "subject": "key",
	} {
		f.Set("report."+name, playbooks.StrFact(v))
	}
	if c.secret.Empty() {
		f.Set("report.possession", playbooks.BoolFact(false))
	}
	return f
}
