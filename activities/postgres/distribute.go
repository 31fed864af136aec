package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"strings"

	"rekey/activities"
	"rekey/internal/filestore"
)

var _ activities.Distributor = (*Client)(nil)

// StoreFile is the Distribute target "files on the worker's host".
const StoreFile = "file"

// A connection is what dependents read, as NAME.json. Beside it NAME.pgpass holds the
// same as a line of a libpq password file.
type connection struct {
	Version  string `json:"version"`
	Host     string `json:"host"`
	Port     string `json:"port"`
	Database string `json:"dbname"`
	User     string `json:"user"`
	Password string `json:"password"`
	SSLMode  string `json:"sslmode"`
	URL      string `json:"url"`
}

// Distribute writes the connection of the new role into the folder store_dir: NAME.pgpass
// first, then NAME.json, each replaced at once and as a whole, so the previous value
// cannot be read from the folder any more. A program that keeps the old file open
// still sees it. The version is made of the effect's token and the new role, and tells
// nothing about the password; the same call again writes nothing. A role that the
// server does not let in is not handed out.
func (c *Client) Distribute(ctx context.Context, req activities.DistributeRequest) (activities.DistributeResult, error) {
	ctx, cancel, l := c.begin(ctx)
	defer cancel()
	var out activities.DistributeResult
	switch {
	case req.Target != StoreFile:
		return out, invalid(opWrite, "this provider writes to %q only", StoreFile)
	case c.store == nil:
		return out, invalid(opWrite, "set settings.store_dir of account %s: the folder where dependents read", c.account.Name)
	case req.NewKeyID == "" || req.Handle == "":
		return out, invalid(opWrite, "say which role's password goes there")
	}
	if err := filestore.CheckName(req.Name + ".pgpass"); err != nil {
		return out, invalid(opWrite, "%s", err.Error())
	}
	p, ok, f := c.unseal(ctx, opWrite, req.Incident, req.Handle, req.NewKeyID, "distribute")
	if f != nil {
		return out, f
	}
	if !ok {
		return out, invalid(opWrite, "nothing is sealed under the handle of the new role")
	}
	s, f := c.login(ctx, l, opRoles, false, "")
	if f != nil {
		return out, f
	}
	defer s.close()
	switch r, f := s.find(ctx, req.NewKeyID); {
	case f != nil:
		return out, f
	case r == nil || !r.active():
		return out, invalid(opWrite, "the new role %s is not there or may not log in: its password is not handed out", req.NewKeyID)
	}
	out.Version = tokenID(req.Token + "\x00" + req.NewKeyID)
	body, line, err := c.documents(p, out.Version)
	if err != nil {
		return out, invalid(opWrite, "the connection cannot be encoded")
	}
	defer clear(body)
	defer clear(line)
	changed := false
	for _, file := range []struct {
		name string
		text []byte
	}{{req.Name + ".pgpass", line}, {req.Name + ".json", body}} {
		one, err := c.store.Write(file.name, file.text)
		if err != nil {
			return out, &activities.Fault{Class: activities.ClassTransient, Op: opWrite, Detail: err.Error()}
		}
		changed = changed || one
	}
	l.evidence = append(l.evidence, activities.Evidence{Op: opWrite, At: c.now(ctx)})
	detail := ""
	if !changed {
		detail = "written by an earlier attempt"
	}
	out.Result = l.result(activities.Done, detail)
	return out, nil
}

// documents are the two forms of a connection.
func (c *Client) documents(p pair, version string) (body, line []byte, err error) {
	k := connection{
		Version: version, Host: c.config.Host, Port: portText(c.config.Port), Database: c.config.Database,
		User: p.User, Password: p.Password, SSLMode: "verify-full",
	}
	if !c.tls {
		k.SSLMode = "disable"
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(k.User, k.Password), Host: hostPort(k.Host, k.Port), Path: "/" + k.Database, RawQuery: "sslmode=" + k.SSLMode}
	k.URL = u.String()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(k); err != nil {
		return nil, nil, err
	}
	// A colon and a backslash are escaped in a password file
	// (https://www.postgresql.org/docs/current/libpq-pgpass.html).
	esc := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
	fields := []string{k.Host, k.Port, "*", k.User, k.Password}
	for i := range fields {
		fields[i] = esc.Replace(fields[i])
	}
	return b.Bytes(), []byte(strings.Join(fields, ":") + "\n"), nil
}

// storeState tells why nothing can be written to the store, for the check of our own
// permissions; "" where it can.
func (c *Client) storeState() string {
	if c.store == nil {
		return "store_dir is not set"
	}
	if _, err := c.store.Read("rekey-check"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err.Error()
	}
	return ""
}
