package awsiam

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"rekey/activities"
)

// logins lists what besides access keys lets a user in: password, MFA devices,
// SSH keys, service-specific credentials, signing certificates
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials.html).
func (s *sweep) logins(ctx context.Context, user string, note func(what, kind, id string, at time.Time, state any, k *activities.Key)) *activities.Fault {
	c, l := s.c, s.l
	profile, f := call(ctx, l, "iam:GetLoginProfile", reads, func(ctx context.Context) (*iam.GetLoginProfileOutput, error) {
		return c.iam.GetLoginProfile(ctx, &iam.GetLoginProfileInput{UserName: &user})
	})
	if !gone(f) {
		if stop := s.part(ctx, "iam:login", f); stop != nil {
			return stop
		}
		if f == nil && profile.LoginProfile != nil {
			note("login", "password", user, aws.ToTime(profile.LoginProfile.CreateDate), profile.LoginProfile.PasswordResetRequired, nil)
		}
	}
	devices, f := pages(ctx, l, "iam:ListMFADevices", func(ctx context.Context, m *string) ([]types.MFADevice, bool, *string, error) {
		o, err := c.iam.ListMFADevices(ctx, &iam.ListMFADevicesInput{UserName: &user, Marker: m})
		if err != nil {
			return nil, false, nil, err
		}
		return o.MFADevices, o.IsTruncated, o.Marker, nil
	})
	if stop := s.part(ctx, "iam:mfa", f); stop != nil {
		return stop
	}
	for _, d := range devices {
		note("login", "MFA device", aws.ToString(d.SerialNumber), aws.ToTime(d.EnableDate), "", nil)
	}
	ssh, f := pages(ctx, l, "iam:ListSSHPublicKeys", func(ctx context.Context, m *string) ([]types.SSHPublicKeyMetadata, bool, *string, error) {
		o, err := c.iam.ListSSHPublicKeys(ctx, &iam.ListSSHPublicKeysInput{UserName: &user, Marker: m})
		if err != nil {
			return nil, false, nil, err
		}
		return o.SSHPublicKeys, o.IsTruncated, o.Marker, nil
	})
	if stop := s.part(ctx, "iam:ssh", f); stop != nil {
		return stop
	}
	for _, k := range ssh {
		note("login", "SSH key", aws.ToString(k.SSHPublicKeyId), aws.ToTime(k.UploadDate), string(k.Status), nil)
	}
	special, f := call(ctx, l, "iam:ListServiceSpecificCredentials", reads, func(ctx context.Context) (*iam.ListServiceSpecificCredentialsOutput, error) {
		return c.iam.ListServiceSpecificCredentials(ctx, &iam.ListServiceSpecificCredentialsInput{UserName: &user})
	})
	if stop := s.part(ctx, "iam:service-credentials", f); stop != nil {
		return stop
	}
	if f == nil {
		for _, k := range special.ServiceSpecificCredentials {
			note("login", "service credential", aws.ToString(k.ServiceSpecificCredentialId), aws.ToTime(k.CreateDate), string(k.Status), nil)
		}
	}
	certs, f := pages(ctx, l, "iam:ListSigningCertificates", func(ctx context.Context, m *string) ([]types.SigningCertificate, bool, *string, error) {
		o, err := c.iam.ListSigningCertificates(ctx, &iam.ListSigningCertificatesInput{UserName: &user, Marker: m})
		if err != nil {
			return nil, false, nil, err
		}
		return o.Certificates, o.IsTruncated, o.Marker, nil
	})
	if stop := s.part(ctx, "iam:certificates", f); stop != nil {
		return stop
	}
	for _, k := range certs {
		note("login", "signing certificate", aws.ToString(k.CertificateId), aws.ToTime(k.UploadDate), string(k.Status), nil)
	}
	return nil
}
