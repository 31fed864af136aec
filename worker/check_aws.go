package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"rekey/activities"
	"rekey/activities/awsiam"
	"rekey/internal/httpx"
)

// nobody is a user, role, group, policy and secret that does not exist. AWS checks
// the right before it looks for the object, so that AccessDenied and "no such
// entity" tell the two apart.
const nobody = "rekey-check-no-such-name"

// An awsSelf looks at our own credential of one AWS account, through harmless reads
// and, for rights to change something, SimulatePrincipalPolicy
// (https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html).
type awsSelf struct {
	account activities.Account
	id      string // of the account
	arn     string
	iam     *iam.Client
	sts     *sts.Client
	trail   []*cloudtrail.Client // one for each region that is read
	store   *secretsmanager.Client

	mu   sync.Mutex
	date time.Time // of the provider's last answer
	at   time.Time // when it came
}

func newAWSSelf(a activities.Account, client *http.Client) *awsSelf {
	s := &awsSelf{account: a, id: a.Settings["account_id"]}
	cfg := aws.Config{
		HTTPClient:  &dated{next: client, self: s},
		Credentials: aws.CredentialsProviderFunc(s.credential),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	}
	if origin, err := awsiam.Origin(a); err == nil && origin != awsiam.OriginAWS {
		cfg.BaseEndpoint = aws.String(origin)
	}
	home := awsHome(a.Regions)
	in := func(region string) aws.Config { c := cfg; c.Region = region; return c }
	regions := slices.Clone(a.Regions)
	if !slices.Contains(regions, home) {
		regions = append(regions, home)
	}
	s.iam, s.sts, s.store = iam.NewFromConfig(in(home)), sts.NewFromConfig(in(regions[0])), secretsmanager.NewFromConfig(in(regions[0]))
	for _, r := range regions {
		s.trail = append(s.trail, cloudtrail.NewFromConfig(in(r)))
	}
	return s
}

// awsHome is the region of IAM's endpoint in the partition of the regions,
// https://docs.aws.amazon.com/general/latest/gr/iam-service.html.
func awsHome(regions []string) string {
	for _, r := range regions {
		switch {
		case strings.HasPrefix(r, "cn-"):
			return "cn-north-1"
		case strings.HasPrefix(r, "us-gov-"):
			return "us-gov-west-1"
		}
	}
	return "us-east-1"
}

func (s *awsSelf) credential(context.Context) (aws.Credentials, error) {
	var out aws.Credentials
	for name, to := range map[string]*string{"access_key_id": &out.AccessKeyID, "secret_access_key": &out.SecretAccessKey, "session_token": &out.SessionToken} {
		v, err := s.account.Credential(name)
		if err != nil {
			if name == "session_token" {
				continue // only temporary credentials have one
			}
			return aws.Credentials{}, &selfFault{err.Error(), "then check again"}
		}
		raw := v.Reveal()
		*to = strings.TrimSpace(string(raw))
		clear(raw)
		v.Destroy()
	}
	return out, nil
}

// Identity implements selfCheck. GetCallerIdentity needs no right.
func (s *awsSelf) Identity(ctx context.Context) (string, error) {
	if _, err := s.credential(ctx); err != nil {
		return "", err
	}
	who, err := s.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", s.fault(err)
	}
	s.arn = aws.ToString(who.Arn)
	if got := aws.ToString(who.Account); got != s.id {
		return s.arn, &selfFault{
			fmt.Sprintf("our credential is of AWS account %s, and account %s is configured as %s", digits(got), s.account.Name, s.id),
			"mend account_id, or give the credential of that account",
		}
	}
	return s.arn, nil
}

// digits keeps an account number and nothing else that a server may have said.
func digits(s string) string {
	if len(s) == 12 && strings.Trim(s, "0123456789") == "" {
		return s
	}
	return "unknown"
}

// fault tells a refused credential from a provider that is not there. The
// provider's own text is dropped.
func (s *awsSelf) fault(err error) *selfFault {
	var own *selfFault
	var api smithy.APIError
	if errors.As(err, &own) {
		return own
	}
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "InvalidClientTokenId", "UnrecognizedClientException", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId":
			return &selfFault{"the provider does not accept our credential", "is it disabled, deleted or expired? give another one"}
		case "SignatureDoesNotMatch", "InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed":
			return &selfFault{"our credential's signature is refused", "is the secret that of the key id, and this machine's clock right? (`rekey doctor` compares the clocks)"}
		}
		return &selfFault{"the provider answers, but not as AWS does", "check base_url"}
	}
	switch {
	case errors.Is(err, httpx.ErrAddress):
		return &selfFault{"the endpoint's address is private", "set allow_private if that is meant"}
	case errors.Is(err, httpx.ErrRedirect):
		return &selfFault{"the endpoint redirects to another host", "is a proxy in between? check base_url"}
	}
	return &selfFault{"the provider cannot be reached", "check base_url, ca_file and the network"}
}

// May implements selfCheck.
func (s *awsSelf) May(ctx context.Context, permissions []string) map[string]string {
	out := map[string]string{}
	reads := s.reads()
	var rest []string
	for _, p := range permissions {
		read, ok := reads[p]
		if !ok {
			rest = append(rest, p)
			continue
		}
		if out[p] = judged(read(ctx)); out[p] == unknown {
			rest = append(rest, p)
		}
	}
	for p, state := range s.simulate(ctx, rest) {
		out[p] = state
	}
	return out
}

// judged reads an answer: whatever it says of the object, it was allowed to say
// it, unless it is a refusal. Codes: IAM API Reference, "Common Error Types".
func judged(err error) string {
	var api smithy.APIError
	switch {
	case err == nil:
		return allowed
	case !errors.As(err, &api):
		return unknown
	}
	switch api.ErrorCode() {
	case "NoSuchEntity", "NoSuchEntityException", "ResourceNotFoundException":
		return allowed
	case "AccessDenied", "AccessDeniedException":
		return denied
	}
	return unknown
}

// reads are harmless calls by the permission that they need.
func (s *awsSelf) reads() map[string]func(context.Context) error {
	name := aws.String(nobody)
	arn := aws.String("arn:" + s.partition() + ":iam::" + s.id + ":policy/" + nobody)
	own := func(ctx context.Context) *string {
		c, err := s.credential(ctx)
		if err != nil {
			return name
		}
		return &c.AccessKeyID
	}
	return map[string]func(context.Context) error{
		"iam:GetAccessKeyLastUsed": func(ctx context.Context) error { // of our own key: of an unknown one AWS says AccessDenied
			_, err := s.iam.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: own(ctx)})
			return err
		},
		"iam:ListAccessKeys": func(ctx context.Context) error {
			_, err := s.iam.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: name})
			return err
		},
		"iam:GetUser": func(ctx context.Context) error {
			_, err := s.iam.GetUser(ctx, &iam.GetUserInput{UserName: name})
			return err
		},
		"iam:ListUserPolicies": func(ctx context.Context) error {
			_, err := s.iam.ListUserPolicies(ctx, &iam.ListUserPoliciesInput{UserName: name})
			return err
		},
		"iam:GetUserPolicy": func(ctx context.Context) error {
			_, err := s.iam.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: name, PolicyName: name})
			return err
		},
		"iam:ListAttachedUserPolicies": func(ctx context.Context) error {
			_, err := s.iam.ListAttachedUserPolicies(ctx, &iam.ListAttachedUserPoliciesInput{UserName: name})
			return err
		},
		"iam:ListGroupsForUser": func(ctx context.Context) error {
			_, err := s.iam.ListGroupsForUser(ctx, &iam.ListGroupsForUserInput{UserName: name})
			return err
		},
		"iam:ListGroupPolicies": func(ctx context.Context) error {
			_, err := s.iam.ListGroupPolicies(ctx, &iam.ListGroupPoliciesInput{GroupName: name})
			return err
		},
		"iam:GetGroupPolicy": func(ctx context.Context) error {
			_, err := s.iam.GetGroupPolicy(ctx, &iam.GetGroupPolicyInput{GroupName: name, PolicyName: name})
			return err
		},
		"iam:ListAttachedGroupPolicies": func(ctx context.Context) error {
			_, err := s.iam.ListAttachedGroupPolicies(ctx, &iam.ListAttachedGroupPoliciesInput{GroupName: name})
			return err
		},
		"iam:ListRolePolicies": func(ctx context.Context) error {
			_, err := s.iam.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: name})
			return err
		},
		"iam:GetRolePolicy": func(ctx context.Context) error {
			_, err := s.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: name, PolicyName: name})
			return err
		},
		"iam:ListAttachedRolePolicies": func(ctx context.Context) error {
			_, err := s.iam.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: name})
			return err
		},
		"iam:GetRole": func(ctx context.Context) error {
			_, err := s.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: name})
			return err
		},
		"iam:GetPolicy": func(ctx context.Context) error {
			_, err := s.iam.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: arn})
			return err
		},
		"iam:GetPolicyVersion": func(ctx context.Context) error {
			_, err := s.iam.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v1")})
			return err
		},
		"iam:GetAccountAuthorizationDetails": func(ctx context.Context) error {
			_, err := s.iam.GetAccountAuthorizationDetails(ctx, &iam.GetAccountAuthorizationDetailsInput{MaxItems: aws.Int32(1)})
			return err
		},
		"iam:GetLoginProfile": func(ctx context.Context) error {
			_, err := s.iam.GetLoginProfile(ctx, &iam.GetLoginProfileInput{UserName: name})
			return err
		},
		"iam:ListMFADevices": func(ctx context.Context) error {
			_, err := s.iam.ListMFADevices(ctx, &iam.ListMFADevicesInput{UserName: name})
			return err
		},
		"iam:ListSSHPublicKeys": func(ctx context.Context) error {
			_, err := s.iam.ListSSHPublicKeys(ctx, &iam.ListSSHPublicKeysInput{UserName: name})
			return err
		},
		"iam:ListServiceSpecificCredentials": func(ctx context.Context) error {
			_, err := s.iam.ListServiceSpecificCredentials(ctx, &iam.ListServiceSpecificCredentialsInput{UserName: name})
			return err
		},
		"iam:ListSigningCertificates": func(ctx context.Context) error {
			_, err := s.iam.ListSigningCertificates(ctx, &iam.ListSigningCertificatesInput{UserName: name})
			return err
		},
		"cloudtrail:LookupEvents": func(ctx context.Context) error {
			for _, region := range s.trail { // allowed means in every region that is read
				now := time.Now()
				_, err := region.LookupEvents(ctx, &cloudtrail.LookupEventsInput{StartTime: aws.Time(now.Add(-time.Hour)), EndTime: &now, MaxResults: aws.Int32(1)})
				if judged(err) != allowed {
					return err
				}
			}
			return nil
		},
		"secretsmanager:DescribeSecret": func(ctx context.Context) error {
			_, err := s.store.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: name})
			return err
		},
	}
}

func (s *awsSelf) partition() string {
	if parts := strings.Split(s.arn, ":"); len(parts) > 1 && strings.HasPrefix(parts[1], "aws") {
		return parts[1]
	}
	return "aws"
}

// simulate asks AWS what our policies say. It knows identity policies and
// boundaries, not the policies of secrets and KMS keys; what it does not answer
// stays unknown.
func (s *awsSelf) simulate(ctx context.Context, permissions []string) map[string]string {
	out := map[string]string{}
	if len(permissions) == 0 {
		return out
	}
	res, err := s.iam.SimulatePrincipalPolicy(ctx, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: aws.String(s.source()), ActionNames: permissions})
	if err != nil {
		return out
	}
	for _, r := range res.EvaluationResults {
		switch r.EvalDecision {
		case types.PolicyEvaluationDecisionTypeAllowed:
			out[aws.ToString(r.EvalActionName)] = allowed
		case types.PolicyEvaluationDecisionTypeExplicitDeny, types.PolicyEvaluationDecisionTypeImplicitDeny:
			out[aws.ToString(r.EvalActionName)] = denied
		}
	}
	return out
}

// source is the principal whose policies count: of a role's session the role
// (IAM API Reference, SimulatePrincipalPolicy, PolicySourceArn).
func (s *awsSelf) source() string {
	if before, rest, ok := strings.Cut(s.arn, ":assumed-role/"); ok {
		role, _, _ := strings.Cut(rest, "/")
		return strings.Replace(before, ":sts:", ":iam:", 1) + ":role/" + role
	}
	return s.arn
}

// Skew implements selfCheck. The Date header has whole seconds (RFC 9110 section
// 6.6.1).
func (s *awsSelf) Skew() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.date.Sub(s.at), !s.date.IsZero()
}

// dated sends for the SDK, marks our calls, and keeps the date of each answer.
type dated struct {
	next *http.Client
	self *awsSelf
}

// Do implements aws.HTTPClient. Both bodies are read to their end here: the SDK
// closes the request's as soon as an answer begins, under the transport's hands.
func (d *dated) Do(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	req.Header.Set("User-Agent", "rekey/1 rekey-check "+req.Header.Get("User-Agent"))
	resp, err := d.next.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		d.self.mu.Lock()
		d.self.date, d.self.at = date, time.Now()
		d.self.mu.Unlock()
	}
	return resp, nil
}
