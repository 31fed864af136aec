package intake

import (
	"rekey/activities"
	"rekey/internal/config"
	"rekey/internal/statement"
	"rekey/playbooks"
	"rekey/workflows"
)

// settings are what a new incident pins.
func (in *Intake) settings(c *candidate) (workflows.Settings, error) {
	s := workflows.Settings{
		Playbook: *c.pb, Digest: c.digest, People: in.Voters.People, ServerKeys: in.Voters.ServerKeys, Solo: in.Voters.Solo,
		Quorum: in.Config.Ceilings.Irreversible.Quorum, OutsideChat: in.Config.Ceilings.Irreversible.OutsideSlack,
		Kinds: Kinds(in.Config, in.Providers), Virtual: in.Virtual, Off: in.Off, UI: in.UI, Namespace: in.Namespace, Large: workflows.LargeFrom,
	}
	if !in.Virtual {
		// A drill tells nobody: its places are the lab's, and its clock is not theirs.
		s.Channels = in.Config.ConfiguredChannels()
		if on := in.Config.Channels.Slack.RestsOn; len(on) > 0 {
			s.VoteRests = map[string][]string{statement.MethodSlack: on}
		}
	}
	s.Playbook.Record = in.recordOf(s.Playbook.Record)
	if in.Holds != nil {
		var err error
		if s.Holds, err = in.Holds(); err != nil {
			return s, unavailable(err, "nothing was started: mend the file that holds.file of rekey.yaml names, then report again", "the standing holds cannot be read, and without them nothing may move")
		}
	}
	return s, nil
}

// recordOf fills in where rekey.yaml has incidents followed when the playbook does not
// say.
func (in *Intake) recordOf(r playbooks.Record) playbooks.Record {
	if r.Slack == nil && in.Config.Record.Slack.Channel != "" {
		r.Slack = &playbooks.RecordSlack{Channel: in.Config.Record.Slack.Channel}
	}
	if g := in.Config.Record.GitHub; r.GitHub == nil && g.Repo != "" {
		r.GitHub = &playbooks.RecordGitHub{Repo: g.Repo, Labels: g.Labels}
	}
	return r
}

// Kinds are the facts of every kind of every provider that workflows need, by
// "provider/kind". The vantage points are the configured regions per account.
func Kinds(c *config.Config, ds []activities.Descriptor) map[string]workflows.KindFacts {
	out := map[string]workflows.KindFacts{}
	for _, d := range ds {
		vantages := map[string][]string{}
		for _, name := range c.Accounts(d.Code) {
			if regions := c.Providers[d.Code][name].Regions; len(regions) > 0 {
				vantages[name] = regions
			}
		}
		for _, k := range d.Kinds {
			out[d.Code+"/"+k.Kind] = workflows.KindFacts{
				Verbs: k.Verbs, PropagationMs: k.Propagation.Milliseconds(), SessionsOutlive: k.SessionsOutlive,
				ProbeAction: k.ProbeAction != "", Vantages: vantages, RungVerbs: d.RungVerbs,
			}
		}
	}
	return out
}
