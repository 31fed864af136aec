// Package email sends notices as mail over SMTP (RFC 5321).
//
// Whether a mail arrived cannot be looked up, so the channel is at-most-once: when
// the answer to the end of the message is lost the result is unclear, and nothing
// sends it again but a person's word.
package email

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	mail "github.com/wneessen/go-mail"

	"rekey/activities"
	"rekey/activities/notify"
	"rekey/internal/httpx"
)

// Code of the channel, as in `channels.email` of rekey.yaml.
const Code = "email"

const (
	// dialTime bounds connection, greeting, STARTTLS and login.
	dialTime = 15 * time.Second
	// sendTime bounds the hand-over. RFC 5321 section 4.5.3.2.6 gives a server ten
	// minutes to answer the end of the data; an answer that takes longer than this
	// is unclear, and a person looks.
	sendTime = 60 * time.Second
	// maxText bounds a notice: some thousand keys.
	maxText = 1 << 20
)

// Channel is the offer of this folder.
func Channel() notify.Channel {
	return notify.Channel{
		Descriptor: notify.Descriptor{
			Code: Code, Name: "E-mail (SMTP)", Docs: "https://www.rfc-editor.org/rfc/rfc5321", Delivery: notify.AtMostOnce,
			Permissions: []string{"relay mail from channels.email.from to any recipient"},
		},
		Open: open,
	}
}

// sender is one configured mail server. It is safe for concurrent use: each mail
// has a connection of its own, so no state is left between two.
type sender struct {
	account activities.Account
	deps    activities.Deps
	host    string
	port    int
	mode    string // starttls, implicit, none
	from    string
	user    string
}

func open(a activities.Account, d activities.Deps) (any, error) {
	port, err := strconv.Atoi(a.Settings["port"])
	if err != nil || port < 1 || port > 65535 {
		return nil, errors.New("channels.email.port: give the mail server's port, such as 587")
	}
	s := &sender{account: a, deps: d, host: a.Settings["host"], port: port, mode: a.Settings["tls"], from: a.Settings["from"], user: a.Settings["user"]}
	if s.host == "" {
		return nil, errors.New("channels.email.host: missing: give the mail server's name")
	}
	if err := notify.CheckMailbox(s.from); err != nil {
		return nil, fmt.Errorf("channels.email.from: %w", err)
	}
	switch s.mode {
	case "":
		s.mode = "starttls"
	case "starttls", "implicit":
	case "none":
		// Mail in clear names keys and customers: only to a server of the own machine
		// or network, which has to be allowed in words.
		if !a.AllowPrivate {
			return nil, errors.New("channels.email.tls: none is only for a server of the own network: say allow_private: true, or use starttls or implicit")
		}
		if s.user != "" {
			return nil, errors.New("channels.email.user: a password is never sent without TLS: use starttls or implicit")
		}
	default:
		return nil, errors.New("channels.email.tls: starttls, implicit or none")
	}
	if _, err := httpx.TLS(a.CAFile); err != nil {
		return nil, fmt.Errorf("channels.email: %w", err)
	}
	return s, nil
}

// Send hands one notice over. Failures are *activities.Fault:
//   - transient: nothing was handed over; the same again later is right (4yz, no
//     connection);
//   - throttled: the server closes for now (421);
//   - denied: our own set-up is refused (login, sender, certificate), whoever the
//     recipient is;
//   - invalid: this recipient was refused for good (5yz). Detail has the enhanced
//     status code (RFC 3463), never the server's text;
//   - unclear: the answer to the whole message is lost.
func (s *sender) Send(ctx context.Context, req notify.SendRequest) (notify.SendResult, error) {
	msg, err := s.message(ctx, req)
	if err != nil {
		return notify.SendResult{}, err
	}
	c, err := s.connect(ctx)
	if err != nil {
		return notify.SendResult{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	err = c.client.SendWithSMTPClient(c.smtp, msg)
	stop()
	at := s.deps.Now(ctx)
	if err != nil && !msg.IsDelivered() {
		// No QUIT: after a message that was cut short the client would end the data
		// first, and the server would take half a notice for a whole one.
		_ = c.conn.Close()
		return notify.SendResult{}, s.refused(err)
	}
	_ = c.client.CloseWithSMTPClient(c.smtp)
	_ = c.conn.Close()
	ev := activities.Evidence{Op: "smtp:DATA", At: at, RequestID: queueID(msg.ServerResponse()), Status: 250}
	return notify.SendResult{Result: activities.Result{Outcome: activities.Done, Evidence: []activities.Evidence{ev}}, Receipt: ev.RequestID}, nil
}

// Check logs in to the mail server and out again. It sends nothing; a mail server
// has no targets.
func (s *sender) Check(ctx context.Context, _ ...string) []notify.Problem {
	c, err := s.connect(ctx)
	if err != nil {
		f := activities.AsFault("smtp:connect", err)
		p := notify.Problem{Code: notify.ProblemUnreachable, What: f.Detail, Do: "check channels.email.host and port, and that this machine may connect there"}
		if f.Class == activities.ClassDenied {
			p.Code, p.Do = notify.ProblemCredential, "mend channels.email as it says; notices wait meanwhile"
		}
		return []notify.Problem{p}
	}
	defer func() { _ = c.conn.Close() }()
	_ = c.client.CloseWithSMTPClient(c.smtp)
	return nil
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

// message builds the mail. What could end a header never gets into one.
func (s *sender) message(ctx context.Context, req notify.SendRequest) (*mail.Msg, error) {
	bad := func(what string) error {
		return &activities.Fault{Class: activities.ClassInvalid, Op: "smtp:message", Detail: what}
	}
	switch {
	case !idForm.MatchString(req.ID):
		return nil, bad("the notice's id cannot be a Message-ID")
	case notify.CheckMailbox(req.To) != nil:
		return nil, bad("the contact's address is not a mail address")
	case req.Subject == "" || strings.ContainsFunc(req.Subject, unicode.IsControl):
		return nil, bad("the notice's subject is empty or holds control characters")
	case req.Text == "" || len(req.Text) > maxText:
		return nil, bad("the notice is empty or larger than 1 MiB")
	}
	m := mail.NewMsg(mail.WithCharset(mail.CharsetUTF8), mail.WithEncoding(mail.EncodingQP), mail.WithNoDefaultUserAgent())
	if m.From(s.from) != nil || m.To(req.To) != nil {
		return nil, bad("the contact's address is not a mail address")
	}
	m.Subject(req.Subject)
	m.SetDateWithValue(s.deps.Now(ctx))
	// The same for every attempt: a recipient's server may drop the second one.
	m.SetMessageIDWithValue(req.ID + "@" + s.from[strings.LastIndex(s.from, "@")+1:])
	// RFC 3834 section 5: no automatic answers, please.
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetBodyString(mail.TypeTextPlain, strings.Map(printable, req.Text))
	return m, nil
}

// printable drops control characters, line ends and tabs apart.
func printable(r rune) rune {
	if r == '\n' || r == '\t' {
		return r
	}
	if unicode.IsControl(r) {
		return -1
	}
	return r
}

// connection is one session with the server.
type connection struct {
	client *mail.Client
	smtp   smtpClient
	conn   net.Conn
}

// connect opens a session: TLS as configured, logged in where a user is given.
func (s *sender) connect(ctx context.Context) (*connection, error) {
	conf, err := httpx.TLS(s.account.CAFile)
	if err != nil {
		return nil, &activities.Fault{Class: activities.ClassDenied, Op: "smtp:connect", Detail: "channels.email.ca_file cannot be read"}
	}
	conf.ServerName = s.host
	out := &connection{}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := httpx.Dialer(s.account.AllowPrivate).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		out.conn = raw
		if s.mode != "implicit" {
			return raw, nil
		}
		t := tls.Client(raw, conf)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		return t, nil
	}
	policy := mail.NoTLS
	if s.mode == "starttls" {
		policy = mail.TLSMandatory
	}
	options := []mail.Option{
		mail.WithPort(s.port), mail.WithTimeout(sendTime), mail.WithTLSPolicy(policy), mail.WithTLSConfig(conf),
		mail.WithDialContextFunc(dial), mail.WithoutNoop(), mail.WithoutRset(),
	}
	c, err := mail.NewClient(s.host, options...)
	if err != nil {
		return nil, &activities.Fault{Class: activities.ClassDenied, Op: "smtp:connect", Detail: "channels.email is not usable: check host, port and tls"}
	}
	limit, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	// The session's own deadline is that of the hand-over, so greeting and STARTTLS
	// are bounded by closing the connection.
	stop := context.AfterFunc(limit, func() {
		if out.conn != nil {
			_ = out.conn.Close()
		}
	})
	defer stop()
	session, err := c.DialToSMTPClientWithContext(limit)
	if err == nil && s.user != "" {
		err = s.login(session)
	}
	if err != nil {
		if out.conn != nil {
			_ = out.conn.Close()
		}
		return nil, unreachable(err)
	}
	out.client, out.smtp = c, session
	return out, nil
}

var queued = regexp.MustCompile(`(?i)queued as ([A-Za-z0-9][A-Za-z0-9.-]{0,63})`)

// queueID finds the server's id of the mail, for its own support desk. Nothing else
// of its text is kept.
func queueID(response string) string {
	if m := queued.FindStringSubmatch(response); m != nil {
		return m[1]
	}
	return ""
}
