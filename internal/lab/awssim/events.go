package awssim

import (
	"net/http"
	"time"
)

// EventBridge, as far as an attacker needs it to leave something behind that runs later, and people
// to find it and take it away
// (https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html).
func eventsOps() map[string]operation {
	return map[string]operation{
		"events:PutRule":      {resource: onRule, run: putRule},
		"events:DescribeRule": {read: true, verb: "Inspect", resource: onRule, run: describeRule},
		"events:ListRules":    {read: true, verb: "Inspect", resource: anything, run: listRules},
		"events:DeleteRule":   {resource: onRule, run: deleteRule},
	}
}

// Rule is a scheduled rule.
type Rule struct {
	Name     string    `json:"name"`
	ARN      string    `json:"arn"`
	Schedule string    `json:"schedule"`
	Created  time.Time `json:"created"`
	By       string    `json:"by"` // key id
}

type ruleInput struct {
	Name               string
	NamePrefix         string
	ScheduleExpression string
	State              string
}

func (s *Sim) ruleARN(name string) string {
	return "arn:aws:events:" + s.opt.Region + ":" + s.opt.Account + ":rule/" + name
}

func onRule(c *call) string {
	var in ruleInput
	if c.input(&in) != nil {
		return "*"
	}
	return c.sim.ruleARN(in.Name)
}

func putRule(s *Sim, c *call) (any, *APIError) {
	var in ruleInput
	if err := c.input(&in); err != nil {
		return nil, err
	}
	if in.Name == "" || in.ScheduleExpression == "" {
		return nil, fail(http.StatusBadRequest, "ValidationException", "A rule needs a name and a schedule.")
	}
	s.live.Rules[in.Name] = &Rule{Name: in.Name, ARN: s.ruleARN(in.Name), Schedule: in.ScheduleExpression, Created: c.now.UTC(), By: c.keyID}
	c.touch("rule", in.Name)
	c.elements = map[string]any{"ruleArn": s.ruleARN(in.Name)}
	return map[string]any{"RuleArn": s.ruleARN(in.Name)}, nil
}

func (s *Sim) namedRule(c *call) (*Rule, *APIError) {
	var in ruleInput
	if err := c.input(&in); err != nil {
		return nil, err
	}
	r := s.live.Rules[in.Name]
	if r == nil {
		return nil, fail(http.StatusBadRequest, "ResourceNotFoundException", "Rule %s does not exist on EventBus default.", in.Name)
	}
	return r, nil
}

func (r *Rule) shown() map[string]any {
	return map[string]any{"Name": r.Name, "Arn": r.ARN, "ScheduleExpression": r.Schedule, "State": "ENABLED", "EventBusName": "default"}
}

func describeRule(s *Sim, c *call) (any, *APIError) {
	r, err := s.namedRule(c)
	if err != nil {
		return nil, err
	}
	return r.shown(), nil
}

func listRules(s *Sim, c *call) (any, *APIError) {
	list := []map[string]any{}
	for _, r := range s.live.Rules {
		list = append(list, r.shown())
	}
	return map[string]any{"Rules": list}, nil
}

// deleteRule: deleting what does not exist is no error, as in AWS.
func deleteRule(s *Sim, c *call) (any, *APIError) {
	var in ruleInput
	if err := c.input(&in); err != nil {
		return nil, err
	}
	if c.same = s.live.Rules[in.Name] == nil; !c.same {
		delete(s.live.Rules, in.Name)
		c.touch("rule", in.Name)
	}
	return nil, nil
}

// RunJob does what a planted job does when it runs, with the rights it was given when it was
// planted: it makes a key of a user. The key is the attacker's.
func (s *Sim) RunJob(user string) (keyID string, ok bool) {
	if s.live.Users[user] == nil || len(s.keysOf(user)) >= s.opt.KeysPerUser {
		return "", false
	}
	s.seq++
	c := &call{sim: s, now: s.opt.Now(), service: "iam", action: "CreateAccessKey", form: map[string][]string{"UserName": {user}}, op: operations["iam:CreateAccessKey"],
		requestID: uuid(s.opt.Salt, "request", s.seq), who: &principal{arn: "arn:aws:iam::" + s.opt.Account + ":role/events", id: "AROAEVENTS:job"},
		keyID: "events.amazonaws.com", ip: "events.amazonaws.com", agent: "events.amazonaws.com", label: "malicious", source: "job", region: s.opt.Region}
	_, err := createAccessKey(s, c)
	if err = s.finish(c, err); err != nil {
		return "", false
	}
	keyID, _ = c.elements["_target"].(string)
	return keyID, true
}
