package awsiam

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"rekey/activities"
)

var _ activities.Distributor = (*Client)(nil)

const (
	stageCurrent  = "AWSCURRENT"
	stagePrevious = "AWSPREVIOUS"
)

// Distribute writes {"access_key_id","secret_access_key"} as the current version
// of an existing secret, and takes the label AWSPREVIOUS from the version before
// it, so that nobody gets the old value by that name; Secrets Manager deletes a
// version without labels by itself, at a time of its own
// (https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html).
//
// The version id is made of the token and the key, so the same call again writes
// nothing. Secrets Manager takes a new version of a secret at most every ten
// minutes for long; one key is far below that. A secret that does not exist is
// refused: who may read it is not ours to decide.
func (c *Client) Distribute(ctx context.Context, req activities.DistributeRequest) (activities.DistributeResult, error) {
	const op = "secretsmanager:PutSecretValue"
	ctx, l := c.begin(ctx, req.Ref)
	fail := func(f *activities.Fault) (activities.DistributeResult, error) {
		return activities.DistributeResult{}, f
	}
	switch {
	case req.Target != StoreSecretsManager:
		return fail(invalid(op, "no store %q here; this provider has %s", req.Target, StoreSecretsManager))
	case req.Name == "" || req.NewKeyID == "" || req.Token == "" || req.Handle == "":
		return fail(invalid(op, "the store's name of the secret, the new key id, its handle and a token are needed"))
	}
	p, ok, f := c.unseal(ctx, op, req.Incident, req.Handle, req.NewKeyID, "distribute")
	if f != nil {
		return fail(f)
	}
	if !ok {
		return fail(invalid(op, "nothing is sealed under the handle any more; issue a new key"))
	}
	value, err := json.Marshal(pair{ID: p.ID, Secret: p.Secret})
	if err != nil {
		return fail(invalid(op, "the pair cannot be encoded"))
	}
	defer clear(value)
	store := c.stores[c.regionOf(req.Name)]
	if store == nil {
		return fail(invalid(op, "%s is in a region that is not configured for account %s", req.Name, c.account.Name))
	}
	version := tokenID(req.Token + "\x00" + req.NewKeyID)
	_, f = call(ctx, l, op, repeats, func(ctx context.Context) (*secretsmanager.PutSecretValueOutput, error) {
		return store.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{
			SecretId: &req.Name, ClientRequestToken: &version, SecretString: aws.String(string(value)),
		})
	})
	switch {
	case is(f, "ResourceNotFoundException"):
		f.Detail = "there is no secret " + req.Name + " in Secrets Manager; create it, with who may read it, and try again"
		return fail(f)
	case is(f, "ResourceExistsException"):
		f.Detail = "version " + version + " of " + req.Name + " exists with another value; nothing was overwritten"
		return fail(f)
	case f != nil:
		return fail(f)
	}
	current, f := c.dropPrevious(ctx, l, store, req.Name, version)
	if f != nil {
		return fail(f)
	}
	out := activities.DistributeResult{Result: l.result(activities.Done, ""), Version: version}
	if !current {
		out.Outcome, out.Detail = activities.NeedsHuman, "somebody wrote another value after ours; "+req.Name+" does not hold the new key"
	}
	return out, nil
}

// regionOf is the region of a secret's ARN, else the first configured one.
func (c *Client) regionOf(name string) string {
	if parts := strings.Split(name, ":"); len(parts) > 3 && parts[0] == "arn" {
		return parts[3]
	}
	return c.regions[0]
}

// dropPrevious takes AWSPREVIOUS away from any version but ours and tells whether
// ours is the current one.
func (c *Client) dropPrevious(ctx context.Context, l *log, store *secretsmanager.Client, name, version string) (current bool, f *activities.Fault) {
	d, f := call(ctx, l, "secretsmanager:DescribeSecret", reads, func(ctx context.Context) (*secretsmanager.DescribeSecretOutput, error) {
		return store.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &name})
	})
	if f != nil {
		return false, f
	}
	current = slices.Contains(d.VersionIdsToStages[version], stageCurrent)
	for id, stages := range d.VersionIdsToStages {
		if id == version || !slices.Contains(stages, stagePrevious) {
			continue
		}
		const op = "secretsmanager:UpdateSecretVersionStage"
		_, f := call(ctx, l, op, repeats, func(ctx context.Context) (*secretsmanager.UpdateSecretVersionStageOutput, error) {
			return store.UpdateSecretVersionStage(ctx, &secretsmanager.UpdateSecretVersionStageInput{
				SecretId: &name, VersionStage: aws.String(stagePrevious), RemoveFromVersionId: &id,
			})
		})
		if f != nil && !is(f, "InvalidParameterException") { // moved by somebody else meanwhile
			return false, f
		}
	}
	return current, nil
}
