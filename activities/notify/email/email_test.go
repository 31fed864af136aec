package email_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/activitytest/smtptest"
	"rekey/activities/notify"
	"rekey/activities/notify/email"
	"rekey/internal/secret"
)

var now = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

func account(s *smtptest.Server, tls string) activities.Account {
	return activities.Account{
		Name: email.Code, AllowPrivate: true, CAFile: s.CAFile,
		Settings:   map[string]string{"host": s.Host, "port": s.Port, "tls": tls, "from": "security@example.com"},
		Credential: func(string) (secret.Value, error) { return secret.Value{}, io.EOF },
	}
}

func opened(t *testing.T, a activities.Account) notify.Sender {
	t.Helper()
	c, err := email.Channel().Open(a, activities.Deps{Now: func(context.Context) time.Time { return now }})
	require.NoError(t, err)
	return c.(notify.Sender)
}

func notice() notify.SendRequest {
	return notify.SendRequest{
		Incident: "inc-000000000001", ID: "inc-000000000001-n1-1-c1", Ref: "C033", To: "oncall@customer.example",
		Subject: "Key rotation – please act", Text: "Grüße.\n.\nA line that begins with a dot is above.\nEnd.\n", Attempt: 1,
	}
}

func faultOf(t *testing.T, err error) *activities.Fault {
	t.Helper()
	var f *activities.Fault
	require.ErrorAs(t, err, &f)
	return f
}

// body parses a mail with the standard library.
func body(t *testing.T, raw []byte) (mail.Header, string) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Equal(t, "quoted-printable", m.Header.Get("Content-Transfer-Encoding"))
	b, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	require.NoError(t, err)
	return m.Header, string(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")))
}

func checkMail(t *testing.T, raw []byte) {
	t.Helper()
	h, text := body(t, raw)
	req := notice()
	require.Equal(t, "<inc-000000000001-n1-1-c1@example.com>", h.Get("Message-ID"))
	require.Equal(t, "auto-generated", h.Get("Auto-Submitted"))
	require.Equal(t, "text/plain; charset=UTF-8", h.Get("Content-Type"))
	require.Empty(t, h.Get("X-Mailer"))
	at, err := h.Date()
	require.NoError(t, err)
	require.True(t, now.Equal(at))
	to, err := h.AddressList("To")
	require.NoError(t, err)
	require.Equal(t, req.To, to[0].Address)
	subject, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
	require.NoError(t, err)
	require.Equal(t, req.Subject, subject)
	require.Equal(t, req.Text, text)
}

func TestAMailIsHandedOver(t *testing.T) {
	for _, mode := range []string{smtptest.Clear, smtptest.StartTLS, smtptest.Implicit} {
		t.Run(mode, func(t *testing.T) {
			s := smtptest.Start(t, mode, "", "")
			res, err := opened(t, account(s, mode)).Send(t.Context(), notice())
			require.NoError(t, err)
			require.Equal(t, activities.Done, res.Outcome)
			require.Len(t, s.Mails(), 1)
			require.Equal(t, "security@example.com", s.Mails()[0].From)
			require.Equal(t, "oncall@customer.example", s.Mails()[0].To)
			checkMail(t, s.Mails()[0].Data)
		})
	}
}

func TestAForeignServerTakesTheMail(t *testing.T) {
	s := smtptest.StartAiosmtpd(t)
	a := account(&smtptest.Server{Host: s.Host, Port: s.Port}, "none")
	c := opened(t, a)
	for range 2 {
		_, err := c.Send(t.Context(), notice())
		require.NoError(t, err)
	}
	mails := s.Mails(t)
	require.Len(t, mails, 2)
	checkMail(t, mails[0])
	checkMail(t, mails[1]) // a second attempt carries the same Message-ID
}

func TestTheServersCodeClassesARefusal(t *testing.T) {
	const canary = "text-of-the-vendor"
	code := func(c int, a, b, d int) *smtp.SMTPError {
		return &smtp.SMTPError{Code: c, EnhancedCode: smtp.EnhancedCode{a, b, d}, Message: canary}
	}
	tests := map[string]struct {
		faults smtptest.Faults
		class  activities.Class
		detail string
	}{
		"no such mailbox":        {smtptest.Faults{Rcpt: code(550, 5, 1, 1)}, activities.ClassInvalid, "5.1.1"},
		"mailbox full for now":   {smtptest.Faults{Rcpt: code(452, 4, 2, 2)}, activities.ClassTransient, "4.2.2"},
		"come again":             {smtptest.Faults{Rcpt: code(451, 4, 7, 1)}, activities.ClassTransient, "4.7.1"},
		"service closes":         {smtptest.Faults{Rcpt: code(421, 4, 3, 2)}, activities.ClassThrottled, "4.3.2"},
		"our sender is refused":  {smtptest.Faults{Mail: code(550, 5, 7, 1)}, activities.ClassDenied, "5.7.1"},
		"our sender waits":       {smtptest.Faults{Mail: code(450, 4, 7, 1)}, activities.ClassTransient, "4.7.1"},
		"content is refused":     {smtptest.Faults{Data: code(554, 5, 6, 0)}, activities.ClassInvalid, "5.6.0"},
		"content waits":          {smtptest.Faults{Data: code(451, 4, 3, 0)}, activities.ClassTransient, "4.3.0"},
		"broken inside the mail": {smtptest.Faults{Break: true}, activities.ClassUnclear, "may have been taken"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := smtptest.Start(t, smtptest.Clear, "", "")
			s.Set(tt.faults)
			_, err := opened(t, account(s, "none")).Send(t.Context(), notice())
			f := faultOf(t, err)
			require.Equal(t, tt.class, f.Class, f.Error())
			require.Contains(t, f.Detail, tt.detail)
			require.NotContains(t, f.Error(), canary)
			require.NotContains(t, f.Error(), "customer.example")
			require.Empty(t, s.Mails())
		})
	}
}

func TestALostAnswerIsUnclearAndOneMail(t *testing.T) {
	s := smtptest.Start(t, smtptest.StartTLS, "", "")
	s.Set(smtptest.Faults{Lose: true})
	_, err := opened(t, account(s, "starttls")).Send(t.Context(), notice())
	f := faultOf(t, err)
	require.Equal(t, activities.ClassUnclear, f.Class, f.Error())
	require.False(t, f.Retryable())
	require.Len(t, s.Mails(), 1, "it was taken, whatever we know of it")
}

func TestNothingIsHandedOverToAServerThatCannotBeTrusted(t *testing.T) {
	tests := map[string]struct {
		server, tls string
		change      func(*activities.Account)
		class       activities.Class
		detail      string
	}{
		"unknown authority": {smtptest.StartTLS, "starttls", func(a *activities.Account) { a.CAFile = "" }, activities.ClassDenied, "ca_file"},
		"other name":        {smtptest.StartTLS, "starttls", func(a *activities.Account) { a.Settings["host"] = "localhost" }, activities.ClassDenied, "ca_file"},
		"no STARTTLS":       {smtptest.Clear, "starttls", func(*activities.Account) {}, activities.ClassDenied, "STARTTLS"},
		"private address":   {smtptest.StartTLS, "starttls", func(a *activities.Account) { a.AllowPrivate = false }, activities.ClassDenied, "allow_private"},
		"nobody listens":    {smtptest.Clear, "none", func(a *activities.Account) { a.Settings["port"] = "1" }, activities.ClassTransient, "cannot be reached"},
		"wrong password":    {smtptest.StartTLS, "starttls", func(a *activities.Account) { a.Settings["user"] = "rekey" }, activities.ClassDenied, "login"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := smtptest.Start(t, tt.server, "", "")
			if name == "wrong password" {
				s = smtptest.Start(t, tt.server, "rekey", random(t))
			}
			a := account(s, tt.tls)
			pass := random(t)
			a.Credential = func(string) (secret.Value, error) { return secret.New([]byte(pass)), nil }
			tt.change(&a)
			_, err := opened(t, a).Send(t.Context(), notice())
			f := faultOf(t, err)
			require.Equal(t, tt.class, f.Class, f.Error())
			require.Contains(t, f.Detail, tt.detail)
			require.NotContains(t, f.Error(), pass)
			require.Empty(t, s.Mails())
		})
	}
}

func TestLoginOverTLS(t *testing.T) {
	for _, mode := range []string{smtptest.StartTLS, smtptest.Implicit} {
		pass := random(t)
		s := smtptest.Start(t, mode, "rekey", pass)
		a := account(s, mode)
		a.Settings["user"] = "rekey"
		a.Credential = func(string) (secret.Value, error) { return secret.New([]byte(pass)), nil }
		c := opened(t, a)
		require.Empty(t, c.(notify.Checker).Check(t.Context()))
		require.Empty(t, s.Mails(), "a check sends nothing")
		_, err := c.Send(t.Context(), notice())
		require.NoError(t, err)
		require.Len(t, s.Mails(), 1)
	}
}

func TestNoTextEndsAHeader(t *testing.T) {
	tests := map[string]func(*notify.SendRequest){
		"line end in the subject":   func(r *notify.SendRequest) { r.Subject = "x\r\nBcc: other@example.org" },
		"line end in the recipient": func(r *notify.SendRequest) { r.To = "a@example.org\r\nRCPT TO:<b@example.org>" },
		"two recipients":            func(r *notify.SendRequest) { r.To = "a@example.org, b@example.org" },
		"a name with a recipient":   func(r *notify.SendRequest) { r.To = "Eve <a@example.org>" },
		"no recipient":              func(r *notify.SendRequest) { r.To = "" },
		"line end in the id":        func(r *notify.SendRequest) { r.ID = "x>\r\nBcc: other@example.org" },
		"no text":                   func(r *notify.SendRequest) { r.Text = "" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			s := smtptest.Start(t, smtptest.Clear, "", "")
			req := notice()
			change(&req)
			_, err := opened(t, account(s, "none")).Send(t.Context(), req)
			require.Equal(t, activities.ClassInvalid, faultOf(t, err).Class)
			require.Empty(t, s.Mails())
		})
	}
}

func TestControlCharactersDoNotReachTheReader(t *testing.T) {
	s := smtptest.Start(t, smtptest.Clear, "", "")
	req := notice()
	req.Text = "bell \a escape \x1b[31m carriage\r\nend\n"
	_, err := opened(t, account(s, "none")).Send(t.Context(), req)
	require.NoError(t, err)
	_, text := body(t, s.Mails()[0].Data)
	require.Equal(t, "bell  escape [31m carriage\nend\n", text)
}

func TestAHalfConfigurationIsRefused(t *testing.T) {
	tests := map[string]struct {
		change func(*activities.Account)
		want   string
	}{
		"clear to the world":     {func(a *activities.Account) { a.Settings["tls"], a.AllowPrivate = "none", false }, "allow_private"},
		"password in clear":      {func(a *activities.Account) { a.Settings["tls"], a.Settings["user"] = "none", "rekey" }, "without TLS"},
		"sender is no mailbox":   {func(a *activities.Account) { a.Settings["from"] = "Security <x@example.com>" }, "channels.email.from"},
		"no host":                {func(a *activities.Account) { delete(a.Settings, "host") }, "channels.email.host"},
		"no port":                {func(a *activities.Account) { a.Settings["port"] = "0" }, "channels.email.port"},
		"unknown kind of TLS":    {func(a *activities.Account) { a.Settings["tls"] = "maybe" }, "starttls, implicit or none"},
		"authority is not PEM":   {func(a *activities.Account) { a.CAFile = "/dev/null" }, "no PEM"},
		"authority is not there": {func(a *activities.Account) { a.CAFile = "/nowhere/ca.pem" }, "ca_file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := account(&smtptest.Server{Host: "mail.example.com", Port: "587"}, "starttls")
			tt.change(&a)
			_, err := email.Channel().Open(a, activities.Deps{})
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func random(t *testing.T) string {
	t.Helper()
	b := make([]byte, 16)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return hex.EncodeToString(b)
}
