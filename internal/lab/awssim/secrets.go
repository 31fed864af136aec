package awssim

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"time"
)

func secretsOps() map[string]operation {
	return map[string]operation{
		"secretsmanager:CreateSecret":             {verb: "Distribute", resource: anything, run: createSecret},
		"secretsmanager:PutSecretValue":           {verb: "Distribute", resource: onSecret, run: putSecretValue},
		"secretsmanager:GetSecretValue":           {read: true, resource: onSecret, run: getSecretValue},
		"secretsmanager:DescribeSecret":           {read: true, verb: "Inspect", resource: onSecret, run: describeSecret},
		"secretsmanager:UpdateSecretVersionStage": {verb: "Distribute", resource: onSecret, run: updateSecretVersionStage},
		"secretsmanager:ListSecretVersionIds":     {read: true, verb: "Inspect", resource: onSecret, run: listSecretVersionIds},
	}
}

// Stages of a version (https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html).
const (
	current  = "AWSCURRENT"
	previous = "AWSPREVIOUS"
)

type secretInput struct {
	SecretId            string
	Name                string
	SecretString        *string
	SecretBinary        []byte
	ClientRequestToken  string
	VersionStages       []string
	VersionStage        string
	VersionId           string
	MoveToVersionId     string
	RemoveFromVersionId string
	IncludeDeprecated   bool
}

func onSecret(c *call) string {
	var in secretInput
	if err := c.input(&in); err != nil {
		return "*"
	}
	if sec := c.sim.secret(in.SecretId); sec != nil {
		return sec.ARN
	}
	return "*"
}

// secret finds one by name or ARN.
func (s *Sim) secret(id string) *StoredSecret {
	if sec := s.live.Secrets[id]; sec != nil {
		return sec
	}
	if !strings.HasPrefix(id, "arn:") {
		return nil
	}
	// …:secret:NAME-xxxxxx: the name may hold hyphens, the six characters do not.
	_, name, _ := strings.Cut(id, ":secret:")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		if sec := s.live.Secrets[name[:i]]; sec != nil && sec.ARN == id {
			return sec
		}
	}
	return nil
}

func (s *Sim) secretFor(c *call, in *secretInput) (*StoredSecret, *APIError) {
	if err := c.input(in); err != nil {
		return nil, err
	}
	sec := s.secret(in.SecretId)
	if sec == nil {
		return nil, fail(http.StatusBadRequest, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	}
	return sec, nil
}

func (in *secretInput) value() []byte {
	if in.SecretString != nil {
		return []byte("s" + *in.SecretString)
	}
	return append([]byte("b"), in.SecretBinary...)
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func createSecret(s *Sim, c *call) (any, *APIError) {
	var in secretInput
	if err := c.input(&in); err != nil {
		return nil, err
	}
	if in.Name == "" {
		return nil, fail(http.StatusBadRequest, "InvalidParameterException", "Name is missing.")
	}
	if sec := s.live.Secrets[in.Name]; sec != nil {
		v := sec.version(in.ClientRequestToken)
		if v != nil && s.same(v, in.value()) {
			c.same = true
			return map[string]any{"ARN": sec.ARN, "Name": sec.Name, "VersionId": v.ID}, nil
		}
		return nil, fail(http.StatusBadRequest, "ResourceExistsException", "The operation failed because the secret %s already exists.", in.Name)
	}
	sec := s.addSecret(in.Name, c.now)
	c.touch("secret", sec.Name)
	out := map[string]any{"ARN": sec.ARN, "Name": sec.Name}
	if in.SecretString != nil || in.SecretBinary != nil {
		v, err := s.addVersion(sec, in.ClientRequestToken, in.value(), []string{current}, c.now)
		if err != nil {
			return nil, err
		}
		out["VersionId"] = v.ID
	}
	return out, nil
}

func (s *Sim) addSecret(name string, now time.Time) *StoredSecret {
	sec := &StoredSecret{Name: name, Created: now.UTC(), Changed: now.UTC(),
		ARN: "arn:aws:secretsmanager:" + s.opt.Region + ":" + s.opt.Account + ":secret:" + name + "-" + uniqueID(s.opt.Salt, "", name)[:6]}
	s.live.Secrets[name] = sec
	return sec
}

func (sec *StoredSecret) version(id string) *Version {
	for _, v := range sec.Versions {
		if v.ID == id {
			return v
		}
	}
	return nil
}

func (sec *StoredSecret) staged(stage string) *Version {
	for _, v := range sec.Versions {
		if slices.Contains(v.Stages, stage) {
			return v
		}
	}
	return nil
}

func (s *Sim) same(v *Version, value []byte) bool {
	plain, err := open(s.opt.Salt, v.Sealed)
	return err == nil && subtle.ConstantTimeCompare(plain, value) == 1
}

// addVersion stores a value and moves stages to it. Moving AWSCURRENT makes the old current
// version AWSPREVIOUS, where it stays readable.
func (s *Sim) addVersion(sec *StoredSecret, id string, value []byte, stages []string, now time.Time) (*Version, *APIError) {
	if len(id) < 32 || len(id) > 64 {
		return nil, fail(http.StatusBadRequest, "InvalidParameterException", "ClientRequestToken must be 32-64 characters long.")
	}
	sealed, err := seal(s.opt.Salt, value)
	if err != nil {
		return nil, fail(http.StatusInternalServerError, "InternalServiceError", "the lab cannot seal the value")
	}
	v := &Version{ID: id, Sealed: sealed, Created: now.UTC()}
	sec.Versions = append(sec.Versions, v)
	for _, stage := range stages {
		sec.move(stage, v)
	}
	sec.Changed = now.UTC()
	return v, nil
}

// move puts a stage on one version, or nowhere.
func (sec *StoredSecret) move(stage string, to *Version) {
	was := sec.staged(stage)
	if was == to {
		return
	}
	if was != nil {
		was.Stages = slices.DeleteFunc(was.Stages, func(st string) bool { return st == stage })
		if stage == current {
			sec.move(previous, was)
		}
	}
	if to != nil {
		to.Stages = append(to.Stages, stage)
	}
}

func putSecretValue(s *Sim, c *call) (any, *APIError) {
	var in secretInput
	sec, err := s.secretFor(c, &in)
	if err != nil {
		return nil, err
	}
	if in.SecretString == nil && in.SecretBinary == nil {
		return nil, fail(http.StatusBadRequest, "InvalidParameterException", "You must provide either SecretString or SecretBinary.")
	}
	if len(in.VersionStages) == 0 {
		in.VersionStages = []string{current}
	}
	v := sec.version(in.ClientRequestToken)
	switch {
	case v != nil && !s.same(v, in.value()):
		return nil, fail(http.StatusBadRequest, "ResourceExistsException", "You provided a ClientRequestToken for which a version with different data exists.")
	case v == nil:
		if v, err = s.addVersion(sec, in.ClientRequestToken, in.value(), in.VersionStages, c.now); err != nil {
			return nil, err
		}
		c.touch("secret", sec.Name)
	default:
		c.same = true
	}
	return map[string]any{"ARN": sec.ARN, "Name": sec.Name, "VersionId": v.ID, "VersionStages": slices.Clone(v.Stages)}, nil
}

func getSecretValue(s *Sim, c *call) (any, *APIError) {
	var in secretInput
	sec, err := s.secretFor(c, &in)
	if err != nil {
		return nil, err
	}
	v := sec.staged(current)
	if in.VersionId != "" {
		v = sec.version(in.VersionId)
	} else if in.VersionStage != "" {
		v = sec.staged(in.VersionStage)
	}
	if v == nil || in.VersionId != "" && in.VersionStage != "" && !slices.Contains(v.Stages, in.VersionStage) {
		return nil, fail(http.StatusBadRequest, "ResourceNotFoundException", "Secrets Manager can't find the specified secret value.")
	}
	plain, oerr := open(s.opt.Salt, v.Sealed)
	if oerr != nil || len(plain) == 0 {
		return nil, fail(http.StatusInternalServerError, "InternalServiceError", "the lab cannot open the value")
	}
	out := map[string]any{"ARN": sec.ARN, "Name": sec.Name, "VersionId": v.ID, "VersionStages": slices.Clone(v.Stages), "CreatedDate": seconds(v.Created)}
	if plain[0] == 's' {
		out["SecretString"] = string(plain[1:])
	} else {
		out["SecretBinary"] = plain[1:]
	}
	return out, nil
}

func describeSecret(s *Sim, c *call) (any, *APIError) {
	var in secretInput
	sec, err := s.secretFor(c, &in)
	if err != nil {
		return nil, err
	}
	stages := map[string][]string{}
	for _, v := range sec.Versions {
		if len(v.Stages) > 0 {
			stages[v.ID] = slices.Clone(v.Stages)
		}
	}
	return map[string]any{"ARN": sec.ARN, "Name": sec.Name, "CreatedDate": seconds(sec.Created), "LastChangedDate": seconds(sec.Changed),
		"VersionIdsToStages": stages}, nil
}

func updateSecretVersionStage(s *Sim, c *call) (any, *APIError) {
	var in secretInput
	sec, err := s.secretFor(c, &in)
	if err != nil {
		return nil, err
	}
	var to *Version
	if in.MoveToVersionId != "" {
		if to = sec.version(in.MoveToVersionId); to == nil {
			return nil, fail(http.StatusBadRequest, "ResourceNotFoundException", "Secrets Manager can't find the specified secret version.")
		}
	}
	was := sec.staged(in.VersionStage)
	switch {
	case in.VersionStage == "":
		return nil, fail(http.StatusBadRequest, "InvalidParameterException", "VersionStage is missing.")
	case was != nil && was != to && in.RemoveFromVersionId != was.ID:
		return nil, fail(http.StatusBadRequest, "InvalidParameterException", "The staging label is on another version: name it in RemoveFromVersionId.")
	case to == nil && in.RemoveFromVersionId == "":
		return nil, fail(http.StatusBadRequest, "InvalidParameterException", "You must provide MoveToVersionId or RemoveFromVersionId.")
	case to == nil && in.VersionStage == current:
		return nil, fail(http.StatusBadRequest, "InvalidParameterException", "You can't remove AWSCURRENT without moving it.")
	}
	if was == to {
		c.same = true
	} else {
		sec.move(in.VersionStage, to)
		sec.Changed = c.now.UTC()
		c.touch("secret", sec.Name)
	}
	return map[string]any{"ARN": sec.ARN, "Name": sec.Name}, nil
}

func listSecretVersionIds(s *Sim, c *call) (any, *APIError) {
	var in secretInput
	sec, err := s.secretFor(c, &in)
	if err != nil {
		return nil, err
	}
	var list []map[string]any
	for _, v := range sec.Versions {
		if len(v.Stages) > 0 || in.IncludeDeprecated {
			list = append(list, map[string]any{"VersionId": v.ID, "VersionStages": slices.Clone(v.Stages), "CreatedDate": seconds(v.Created)})
		}
	}
	return map[string]any{"ARN": sec.ARN, "Name": sec.Name, "Versions": list}, nil
}
