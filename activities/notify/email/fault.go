package email

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/textproto"
	"strings"

	mail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"rekey/activities"
	"rekey/internal/httpx"
)

type smtpClient = *smtp.Client

// loginError marks a failure of the login.
type loginError struct{ err error }

func (e *loginError) Error() string { return "login: " + e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

// login authenticates by what the server offers, over TLS only: the session was
// opened so.
func (s *sender) login(c smtpClient) error {
	pass, err := s.account.Credential("password")
	if err != nil {
		return &loginError{err}
	}
	defer pass.Destroy()
	_, offers := c.Extension("AUTH")
	has := func(name string) bool {
		for _, o := range strings.Fields(offers) {
			if strings.EqualFold(o, name) {
				return true
			}
		}
		return false
	}
	p := string(pass.Reveal())
	switch {
	case has("PLAIN"):
		err = c.Auth(smtp.PlainAuth("", s.user, p, s.host, false))
	case has("LOGIN"):
		err = c.Auth(smtp.LoginAuth(s.user, p, s.host, false))
	case has("SCRAM-SHA-256"):
		err = c.Auth(smtp.ScramSHA256Auth(s.user, p))
	default:
		err = errors.New("the server offers no login that rekey speaks")
	}
	if err != nil {
		return &loginError{err}
	}
	return nil
}

// unreachable classes a failure before the first command of the mail: nothing was
// handed over.
func unreachable(err error) *activities.Fault {
	f := &activities.Fault{Class: activities.ClassTransient, Op: "smtp:connect", Detail: "the mail server cannot be reached"}
	var code *textproto.Error
	if errors.As(err, &code) {
		f.Status = code.Code
	}
	var login *loginError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var cert x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.Is(err, httpx.ErrAddress):
		f.Class, f.Detail = activities.ClassDenied, "the mail server has a private address: say channels.email.allow_private: true if that is meant"
	case errors.As(err, &authority), errors.As(err, &name), errors.As(err, &cert), errors.As(err, &verify):
		f.Class, f.Detail = activities.ClassDenied, "the mail server's certificate is not trusted for its name: give its authority as channels.email.ca_file, and the name in it as host"
	case f.Status/100 == 4:
		f.Detail = fmt.Sprintf("the mail server is not ready (%d)", f.Status)
		if f.Status == 421 {
			f.Class = activities.ClassThrottled
		}
	case errors.As(err, &login):
		f.Class, f.Op, f.Detail = activities.ClassDenied, "smtp:AUTH", "the mail server refuses the login: check channels.email.user and password_file"
	case f.Status/100 == 5:
		f.Class, f.Detail = activities.ClassDenied, fmt.Sprintf("the mail server refuses the session (%d)", f.Status)
	case strings.HasPrefix(err.Error(), "STARTTLS mode"):
		f.Class, f.Detail = activities.ClassDenied, "the mail server offers no STARTTLS: use channels.email.tls: implicit on its TLS port, or another server"
	}
	return f
}

// refused classes a failure of the hand-over by the command it came at and by the
// server's code (RFC 5321 section 4.2.1: 4yz may work later, 5yz never will).
func (s *sender) refused(err error) *activities.Fault {
	var e *mail.SendError
	if !errors.As(err, &e) {
		return &activities.Fault{Class: activities.ClassUnclear, Op: "smtp:DATA", Detail: "nobody can tell whether the mail server took the mail"}
	}
	f := &activities.Fault{Class: activities.ClassTransient, Status: e.ErrorCode()}
	code := e.EnhancedStatusCode()
	if code == "" {
		code = fmt.Sprint(f.Status)
	}
	switch e.Reason {
	case mail.ErrSMTPMailFrom:
		f.Op = "smtp:MAIL"
		f.Detail = "the mail server refuses the sender (" + code + "): check channels.email.from and the login"
		if f.Status/100 == 5 {
			f.Class = activities.ClassDenied
		}
	case mail.ErrSMTPRcptTo:
		f.Op, f.Detail = "smtp:RCPT", "the recipient was refused ("+code+")"
		if f.Status/100 == 5 {
			f.Class = activities.ClassInvalid
		}
	case mail.ErrSMTPData:
		f.Op, f.Detail = "smtp:DATA", "the mail server takes no mail now ("+code+")"
		if f.Status/100 == 5 {
			f.Class = activities.ClassInvalid
		}
	case mail.ErrSMTPDataClose:
		f.Op, f.Detail = "smtp:DATA", "the mail was refused ("+code+")"
		if f.Status/100 == 5 {
			f.Class = activities.ClassInvalid
		}
		if f.Status == 0 {
			f.Class, f.Detail = activities.ClassUnclear, "the answer to the mail is lost: it may have been taken"
		}
	case mail.ErrWriteContent:
		f.Op, f.Class, f.Detail = "smtp:DATA", activities.ClassUnclear, "the connection broke inside the mail: it may have been taken"
	case mail.ErrConnCheck, mail.ErrSMTPReset:
		f.Op, f.Detail = "smtp:connect", "the mail server went away before the mail"
	default:
		f.Op, f.Class, f.Detail = "smtp:message", activities.ClassInvalid, "the mail cannot be built"
	}
	if f.Status == 0 && f.Class == activities.ClassTransient {
		f.Detail = "the mail server went away before the mail was handed over"
	}
	if f.Status == 421 && f.Class == activities.ClassTransient {
		f.Class = activities.ClassThrottled // RFC 5321 section 3.8: the service closes
	}
	return f
}
