package awsiam

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"golang.org/x/time/rate"

	"rekey/activities"
	"rekey/internal/secret"
)

// OriginAWS is the origin to which secrets of an account without base_url are
// bound: AWS's own endpoints.
const OriginAWS = "aws"

// A Client is one AWS account. It is safe for concurrent use and holds no
// credential: each call reads it from where the configuration says, so a rotated
// file counts at once.
type Client struct {
	account activities.Account
	id      string // account number
	part    string // partition: aws, aws-cn, aws-us-gov
	home    string // region of IAM's own endpoint and of its CloudTrail events
	regions []string
	origin  string
	deps    activities.Deps

	iam    *iam.Client
	sts    map[string]*sts.Client
	trail  map[string]*cloudtrail.Client
	pace   map[string]*rate.Limiter // of trail, by region
	stores map[string]*secretsmanager.Client
}

var accountForm = regexp.MustCompile(`^[0-9]{12}$`)

// Origin says where secrets of keys of this account may be sent: base_url's
// scheme, host and port, or [OriginAWS].
func Origin(a activities.Account) (string, error) {
	base := a.Settings["base_url"]
	if base == "" {
		return OriginAWS, nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" ||
		u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("base_url must be scheme, host and port alone, as in https://iam.example.com")
	}
	if u.Scheme == "http" && !a.AllowPrivate {
		return "", errors.New("base_url without TLS is for test servers: use https, or set allow_private")
	}
	return strings.ToLower(u.Scheme + "://" + u.Host), nil
}

func open(a activities.Account, d activities.Deps) (any, error) {
	fail := func(err error) (any, error) { return nil, fmt.Errorf("awsiam account %s: %w", a.Name, err) }
	id := a.Settings["account_id"]
	if !accountForm.MatchString(id) {
		return fail(errors.New("account_id must be the 12-digit account number, in quotes"))
	}
	origin, err := Origin(a)
	if err != nil {
		return fail(err)
	}
	perSecond, err := trailRate(a.Settings["rate.cloudtrail"])
	if err != nil {
		return fail(err)
	}
	client, err := d.HTTP(a)
	if err != nil {
		return fail(err)
	}
	agent := d.Agent
	if agent == "" {
		agent = "rekey"
	}
	c := &Client{
		account: a, id: id, origin: origin, deps: d, regions: slices.Clone(a.Regions),
		sts: map[string]*sts.Client{}, trail: map[string]*cloudtrail.Client{},
		pace: map[string]*rate.Limiter{}, stores: map[string]*secretsmanager.Client{},
	}
	c.part, c.home = partition(a.Regions)
	if len(c.regions) == 0 {
		c.regions = []string{c.home}
	}
	cfg := aws.Config{
		HTTPClient:  &doer{http: client, agent: agent},
		Credentials: aws.CredentialsProviderFunc(c.ownCredential),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	}
	if origin != OriginAWS {
		cfg.BaseEndpoint = aws.String(origin)
	}
	in := func(region string) aws.Config {
		cfg := cfg
		cfg.Region = region
		return cfg
	}
	c.iam = iam.NewFromConfig(in(c.home))
	for _, r := range c.allRegions() {
		c.sts[r] = sts.NewFromConfig(in(r))
		c.trail[r] = cloudtrail.NewFromConfig(in(r))
		c.pace[r] = rate.NewLimiter(perSecond, max(1, int(perSecond)))
		c.stores[r] = secretsmanager.NewFromConfig(in(r))
	}
	return c, nil
}

// allRegions are the configured ones and the one where IAM, which is global,
// writes its events.
func (c *Client) allRegions() []string {
	if slices.Contains(c.regions, c.home) {
		return c.regions
	}
	return append(slices.Clone(c.regions), c.home)
}

// partition tells the partition of the regions and the region of its IAM
// endpoint, https://docs.aws.amazon.com/general/latest/gr/iam-service.html.
func partition(regions []string) (name, home string) {
	for _, r := range regions {
		switch {
		case strings.HasPrefix(r, "cn-"):
			return "aws-cn", "cn-north-1"
		case strings.HasPrefix(r, "us-gov-"):
			return "aws-us-gov", "us-gov-west-1"
		}
	}
	return "aws", "us-east-1"
}

// trailRate reads "2/s". Faster than AWS takes is for other endpoints.
func trailRate(s string) (rate.Limit, error) {
	if s == "" {
		return 2, nil
	}
	n, err := strconv.Atoi(strings.TrimSuffix(s, "/s"))
	if err != nil || n < 1 {
		return 0, errors.New(`rate.cloudtrail must be a whole number per second, as in "2/s"`)
	}
	return rate.Limit(n), nil
}

// ownCredential reads our own credential. It fails with a *Fault.
func (c *Client) ownCredential(context.Context) (aws.Credentials, error) {
	var out aws.Credentials
	if c.account.Credential == nil {
		return out, c.noCredential("access_key_id", nil)
	}
	for _, part := range []struct {
		name     string
		to       *string
		optional bool
	}{
		{"access_key_id", &out.AccessKeyID, false}, {"secret_access_key", &out.SecretAccessKey, false}, {"session_token", &out.SessionToken, true},
	} {
		v, err := c.account.Credential(part.name)
		if (err != nil || v.Empty()) && !part.optional {
			return aws.Credentials{}, c.noCredential(part.name, err)
		}
		if err == nil {
			*part.to = strings.TrimSpace(reveal(v))
		}
	}
	return out, nil
}

// noCredential names the file or variable that was looked at: the configuration
// knows it, and never tells what is in it.
func (c *Client) noCredential(name string, err error) *activities.Fault {
	why := fmt.Sprintf("set %s_file or %s_env under credentials in rekey.yaml", name, name)
	if err != nil {
		why = err.Error()
	}
	return &activities.Fault{Class: activities.ClassDenied, Detail: fmt.Sprintf("no credential %s for account %s: %s", name, c.account.Name, why)}
}

func reveal(v secret.Value) string {
	b := v.Reveal()
	defer clear(b)
	return string(b)
}

// now is the world's clock.
func (c *Client) now(ctx context.Context) time.Time {
	if c.deps.Now == nil {
		return time.Now().UTC()
	}
	return c.deps.Now(ctx).UTC()
}

// A log collects the evidence of one verb.
type log struct {
	c        *Client
	evidence []activities.Evidence
}

// begin marks ctx as of one effect and starts its log.
func (c *Client) begin(ctx context.Context, ref activities.Ref) (context.Context, *log) {
	m := mark{incident: ref.Incident}
	if ref.Token != "" {
		m.token = tokenID(ref.Token)
	}
	return context.WithValue(ctx, markKey{}, m), &log{c: c}
}

// call makes one vendor call, keeps its evidence and classes its failure. It
// returns when ctx ends.
func call[T any](ctx context.Context, l *log, op string, eff effect, fn func(context.Context) (T, error)) (T, *activities.Fault) {
	return callInto(ctx, l, &exchange{}, op, eff, fn)
}

// callInto is call for those who must see the exchange itself.
func callInto[T any](ctx context.Context, l *log, x *exchange, op string, eff effect, fn func(context.Context) (T, error)) (T, *activities.Fault) {
	out, err := fn(context.WithValue(ctx, exchangeKey{}, x))
	if x.status != 0 {
		l.evidence = append(l.evidence, activities.Evidence{Op: op, At: l.c.now(ctx), RequestID: x.requestID, Status: x.status})
	}
	if err != nil {
		var zero T
		return zero, classify(ctx, op, eff, x, err)
	}
	return out, nil
}

// result is what a mutating verb gives back. It also turns the refusals that are
// outcomes into them.
func (l *log) result(o activities.Outcome, detail string) activities.Result {
	return activities.Result{Outcome: o, Detail: detail, Evidence: l.evidence}
}

// mine refuses a key that is provably of another account: IAM would say
// NoSuchEntity for it, and "gone" would be a lie.
func (c *Client) mine(op string, k activities.Key) *activities.Fault {
	if k.ID == "" {
		return invalid(op, "the key id is missing")
	}
	kind, err := CheckID(k.ID)
	if err != nil {
		return invalid(op, "malformed key id")
	}
	if k.Kind != "" && k.Kind != kind {
		return invalid(op, "%s is a %s, not a %s", k.ID, kind, k.Kind)
	}
	if account, ok := AccountOf(k.ID); ok && account != c.id {
		return invalid(op, "%s belongs to AWS account %s; account %s here is %s", k.ID, account, c.account.Name, c.id)
	}
	return nil
}

// err keeps a nil *Fault from becoming a non-nil error.
func asError(f *activities.Fault) error {
	if f == nil {
		return nil
	}
	return f
}
