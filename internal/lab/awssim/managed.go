package awssim

import (
	"slices"
	"strings"
)

func iamPolicyOps() map[string]operation {
	return map[string]operation{
		"iam:GetPolicy":        {read: true, verb: "Inspect", resource: onPolicy, run: getPolicy},
		"iam:GetPolicyVersion": {read: true, verb: "Inspect", resource: onPolicy, run: getPolicyVersion},
	}
}

func onPolicy(c *call) string { return c.form.Get("PolicyArn") }

// onlyVersion: the lab's managed policies never change.
const onlyVersion = "v1"

func (s *Sim) namedPolicy(c *call) (arn, document string, err *APIError) {
	arn = c.form.Get("PolicyArn")
	document, ok := managed(arn)
	if !ok {
		return "", "", noSuchEntity("Policy %s was not found.", arn)
	}
	return arn, document, nil
}

// getPolicy: https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetPolicy.html
func getPolicy(s *Sim, c *call) (any, *APIError) {
	arn, _, err := s.namedPolicy(c)
	if err != nil {
		return nil, err
	}
	type policyXML struct {
		PolicyName, Arn, Path, DefaultVersionId string
		IsAttachable                            bool
	}
	return struct{ Policy policyXML }{policyXML{arn[strings.LastIndex(arn, "/")+1:], arn, "/", onlyVersion, true}}, nil
}

// getPolicyVersion: https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetPolicyVersion.html
func getPolicyVersion(s *Sim, c *call) (any, *APIError) {
	arn, document, err := s.namedPolicy(c)
	if err != nil {
		return nil, err
	}
	if v := c.form.Get("VersionId"); v != onlyVersion {
		return nil, noSuchEntity("Policy %s version %s does not exist or is not attachable.", arn, v)
	}
	type versionXML struct {
		Document, VersionId string
		IsDefaultVersion    bool
	}
	return struct{ PolicyVersion versionXML }{versionXML{encodeDocument(document), onlyVersion, true}}, nil
}

const managedPrefix = "arn:aws:iam::aws:policy/"

// managed gives the document of an AWS managed policy. AdministratorAccess, PowerUserAccess,
// IAMFullAccess and AWSDenyAll are AWS's documents; ReadOnlyAccess and the quarantine policy are
// AWS's, cut to services and actions the lab has (https://docs.aws.amazon.com/aws-managed-policy/latest/reference/).
func managed(arn string) (string, bool) {
	doc, ok := map[string]string{
		"AdministratorAccess": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`,
		"PowerUserAccess": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":["iam:*","organizations:*","account:*"],"Resource":"*"},` +
			`{"Effect":"Allow","Action":["account:GetAccountInformation","account:GetPrimaryEmail","account:ListRegions","iam:CreateServiceLinkedRole","iam:DeleteServiceLinkedRole","iam:ListRoles","organizations:DescribeOrganization"],"Resource":"*"}]}`,
		"IAMFullAccess": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:*","organizations:DescribeAccount","organizations:DescribeOrganization","organizations:ListRoots"],"Resource":"*"}]}`,
		"ReadOnlyAccess": `{"Version":"2012-10-17","Statement":[{"Sid":"ReadOnlyActions","Effect":"Allow","Action":["cloudtrail:Describe*","cloudtrail:Get*","cloudtrail:List*","cloudtrail:LookupEvents",` +
			`"ec2:Describe*","ec2:Get*","ec2:List*","iam:Generate*","iam:Get*","iam:List*","iam:Simulate*","s3:Get*","s3:List*","secretsmanager:Describe*","secretsmanager:List*","sts:GetAccessKeyInfo","sts:GetCallerIdentity","sts:GetSessionToken"],"Resource":"*"}]}`,
		"AmazonS3ReadOnlyAccess": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*","s3:List*","s3:Describe*","s3-object-lambda:Get*","s3-object-lambda:List*"],"Resource":"*"}]}`,
		"AWSDenyAll":             `{"Version":"2012-10-17","Statement":[{"Sid":"DenyAll","Effect":"Deny","Action":["*"],"Resource":"*"}]}`,
		"AWSCompromisedKeyQuarantineV3": `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":["iam:AddUserToGroup","iam:AttachGroupPolicy","iam:AttachRolePolicy","iam:AttachUserPolicy","iam:CreateAccessKey",` +
			`"iam:CreateLoginProfile","iam:CreateRole","iam:CreateUser","iam:DeleteAccessKey","iam:DetachUserPolicy","iam:PutUserPolicy","iam:UpdateAccessKey","cloudtrail:LookupEvents","sts:GetSessionToken","sts:GetFederationToken","s3:GetObject","s3:ListBucket"],"Resource":["*"]}]}`,
	}[strings.TrimPrefix(arn, managedPrefix)]
	return doc, ok && strings.HasPrefix(arn, managedPrefix)
}

// attachedNames sorts ARNs for listings.
func attachedNames(arns []string) []attachedPolicy {
	out := make([]attachedPolicy, 0, len(arns))
	for _, a := range slices.Sorted(slices.Values(arns)) {
		out = append(out, attachedPolicy{PolicyName: a[strings.LastIndex(a, "/")+1:], PolicyArn: a})
	}
	return out
}

type attachedPolicy struct {
	PolicyName string
	PolicyArn  string
}
