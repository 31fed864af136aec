package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"rekey/internal/api"
	"rekey/internal/health"
	"rekey/internal/intake"
	"rekey/internal/nearest"
	"rekey/internal/secret"
	"rekey/internal/statement"
	"rekey/internal/view"
)

func (s *Server) nothing(http.ResponseWriter, *http.Request) error {
	return bad(http.StatusNotFound, view.CodeNotFound, "the paths are below /api/v1; /healthz and /readyz", "there is no such path or method")
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	respond(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), queryLimit)
	defer cancel()
	names, err := s.Health.Ready(ctx)
	if err != nil {
		return err
	}
	if err := s.Incidents.Ready(ctx); err != nil {
		return err
	}
	respond(w, http.StatusOK, health.Status{Status: "ready", Checks: append(names, "temporal", "workers")})
	return nil
}

func (s *Server) report(w http.ResponseWriter, r *http.Request) error {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	default:
		return bad(http.StatusServiceUnavailable, "busy", "nothing is lost, send it again in a moment", "too many reports at once")
	}
	var req api.ReportRequest
	if err := read(w, r, maxReport, &req); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), reportLimit)
	defer cancel()
	answer, err := s.Reports.Report(ctx, intake.Caller{Actor: s.Actor, Source: "cli", SourceKind: "cli"}, req)
	if err != nil {
		return err
	}
	status := http.StatusAccepted
	if req.DryRun {
		status = http.StatusOK
	}
	respond(w, status, answer)
	return nil
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	f := Filter{State: q.Get("state"), After: q.Get("after"), Size: pageSize}
	if f.State != "" && !slices.Contains(States(), f.State) {
		do := "give one of " + strings.Join(States(), ", ")
		if n := nearest.Word(f.State, States()); n != "" {
			do = "did you mean " + n + "?"
		}
		return bad(http.StatusBadRequest, view.CodeInvalid, do, "there is no such state")
	}
	ctx, cancel := context.WithTimeout(r.Context(), queryLimit)
	defer cancel()
	l, err := s.Incidents.List(ctx, f)
	if err != nil {
		return err
	}
	respond(w, http.StatusOK, l)
	return nil
}

func (s *Server) show(w http.ResponseWriter, r *http.Request) error {
	return s.ask(w, r, func(ctx context.Context, id string) (any, error) { return s.Incidents.Show(ctx, id) })
}

func (s *Server) plan(w http.ResponseWriter, r *http.Request) error {
	return s.ask(w, r, func(ctx context.Context, id string) (any, error) {
		p, err := s.Incidents.Plan(ctx, id)
		if err == nil && p.Hash == "" {
			return nil, bad(http.StatusNotFound, view.CodeNotFound, "wait for the scope: `rekey incident watch "+id+"`", "this incident has no plan yet")
		}
		return p, err
	})
}

// cursorRE: an index into the items, or a fingerprint in the rows behind them.
var cursorRE = regexp.MustCompile(`^(\d{1,9}|rows|(fp1|spki)_[0-9a-f]{64})$`)

// rowsFrom is the cursor of the first row.
const rowsFrom = "rows"

func (s *Server) items(w http.ResponseWriter, r *http.Request) error {
	after := r.URL.Query().Get("after")
	if after != "" && !cursorRE.MatchString(after) {
		return bad(http.StatusBadRequest, view.CodeInvalid, "give the `next` of the page before", "the cursor is not one")
	}
	return s.ask(w, r, func(ctx context.Context, id string) (any, error) { return s.itemPage(ctx, id, after) })
}

// itemPage gives a page of an incident's items: those that are moved one by one, and
// after them the rows of pages, in the order of fingerprints.
func (s *Server) itemPage(ctx context.Context, id, after string) (view.Items, error) {
	out := view.Items{Schema: "rekey.item/v1", Items: []view.Item{}}
	all, err := s.Incidents.Items(ctx, id)
	if err != nil {
		return out, err
	}
	fp, inRows := after, strings.Contains(after, "_") || after == rowsFrom
	if after == rowsFrom {
		fp = ""
	}
	if !inRows {
		fp = ""
		if out.Items, out.Next = view.Page(all, after, view.ShownItems); out.Next != "" {
			return out, nil
		}
	}
	if s.Rows == nil {
		return out, nil
	}
	room := view.ShownItems - len(out.Items)
	// A row that has become an item a moment ago is among those already.
	items := make(map[string]bool, len(all))
	for _, it := range all {
		items[it.FP] = true
	}
	rows, err := s.Rows.After(ctx, id, fp, room+1)
	if err != nil {
		return out, err
	}
	if len(rows) > room {
		rows, out.Next = rows[:room], rowsFrom
		if room > 0 {
			out.Next = rows[room-1].FP
		}
	}
	for _, row := range rows {
		if !items[row.FP] {
			row.Death.Needed = needed(all)
			out.Items = append(out.Items, row)
		}
	}
	return out, nil
}

// needed is how many refusals prove a death: the same for every item of an incident.
func needed(items []view.Item) int {
	for _, it := range items {
		if it.Death.Needed > 0 {
			return it.Death.Needed
		}
	}
	return 0
}

// ask answers with what get gives for the incident of the path.
func (s *Server) ask(w http.ResponseWriter, r *http.Request, get func(context.Context, string) (any, error)) error {
	id := r.PathValue("id")
	ctx, cancel := context.WithTimeout(r.Context(), queryLimit)
	defer cancel()
	if !secret.ValidIncident(id) {
		return s.unknown(ctx, id)
	}
	v, err := get(ctx, id)
	if errors.Is(err, ErrUnknown) {
		return s.unknown(ctx, id)
	}
	if err != nil {
		return err
	}
	respond(w, http.StatusOK, v)
	return nil
}

// unknown offers the ids that were probably meant.
func (s *Server) unknown(ctx context.Context, id string) error {
	do := "`rekey incident list` shows the ids there are"
	if l, err := s.Incidents.List(ctx, Filter{Size: 200}); err == nil {
		var ids, near []string
		for _, i := range l.Incidents {
			ids = append(ids, i.ID)
			const enough = 6 // "inc-7f": a beginning that says something
			if len(id) >= enough && strings.HasPrefix(i.ID, id) && len(near) < 3 {
				near = append(near, i.ID)
			}
		}
		if n := nearest.Word(id, ids); n != "" && len(near) == 0 {
			near = []string{n}
		}
		if len(near) > 0 {
			do = "did you mean " + strings.Join(near, " or ") + "? " + do
		}
	}
	return bad(http.StatusNotFound, view.CodeNotFound, do, "there is no such incident")
}

// decisions are the statements that an incident takes from people.
func decisions() []string {
	return []string{
		statement.Approve, statement.Deny, statement.Hold, statement.Release, statement.Restore,
		statement.Resolve, statement.Note, statement.Close,
	}
}

var nonceRE = regexp.MustCompile(`^[A-Za-z0-9_-]{8,128}$`)

const (
	maxText      = 4000
	maxNamed     = 10_000
	maxSignature = 128
)

// statement passes a signed statement on to its incident, which checks who
// signed it and decides. Only what could not be a statement is refused here: a
// refusal by the incident is on record, one by this server is not.
func (s *Server) statement(w http.ResponseWriter, r *http.Request) error {
	var signed statement.Signed
	if err := read(w, r, maxStatement, &signed); err != nil {
		return err
	}
	st := signed.Statement
	malformed := func(do, message string) error {
		return bad(http.StatusBadRequest, view.CodeInvalid, do, "%s", message)
	}
	switch {
	case !slices.Contains(decisions(), st.Action):
		return malformed("give one of "+strings.Join(decisions(), ", "), "there is no such action")
	case st.Incident != r.PathValue("id"):
		return malformed("send it to the incident that was signed", "the statement is about another incident than the path")
	case !nonceRE.MatchString(st.Nonce):
		return malformed("sign with a nonce of 8 to 128 letters, digits, dashes or underscores", "the nonce is missing or malformed")
	case len(st.Text) > maxText || len(st.Items) > maxNamed || len(signed.Signature) > maxSignature:
		return malformed("shorten it; longer texts go into evidence files", "the statement is too long")
	case s.unshowable(st):
		return malformed("take it out and sign again; treat it as exposed where you typed it", "the text holds what looks like a secret or cannot be shown")
	}
	ctx, cancel := context.WithTimeout(r.Context(), decideLimit)
	defer cancel()
	if !secret.ValidIncident(st.Incident) {
		return s.unknown(ctx, st.Incident)
	}
	d, err := s.Incidents.Decide(ctx, signed)
	if errors.Is(err, ErrUnknown) {
		return s.unknown(ctx, st.Incident)
	}
	if err != nil {
		return err
	}
	respond(w, http.StatusOK, d)
	return nil
}

// unshowable tells whether a statement holds what looks like a secret or is not
// plain text: even a refused one is on record.
func (s *Server) unshowable(st statement.Statement) bool {
	return slices.ContainsFunc(slices.Concat([]string{st.Text, st.Actor, st.Role, st.Method, st.WaveHash, st.Approval, st.As, st.Task, st.Nonce}, st.Items), func(text string) bool {
		return s.Redact.String(text) != text || s.plain.String(text) != text
	})
}

func (s *Server) bundle(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	ctx, cancel := context.WithTimeout(r.Context(), exportLimit)
	defer cancel()
	if s.Exporter == nil {
		return bad(http.StatusNotFound, view.CodeNotFound, "ask the server that holds the bundles", "this server exports no bundles")
	}
	if !secret.ValidIncident(id) {
		return s.unknown(ctx, id)
	}
	zip, err := s.Exporter.Export(ctx, id)
	if errors.Is(err, ErrUnknown) {
		return s.unknown(ctx, id)
	}
	if err != nil {
		return err
	}
	defer func() { _ = zip.Close() }()
	// A large bundle may take longer than any other answer.
	_ = http.NewResponseController(w).SetWriteDeadline(s.Now().Add(exportLimit)) // not every writer has one
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", `attachment; filename="`+id+`.zip"`)
	if _, err := io.Copy(w, zip); err != nil {
		// The status is out: end the connection, so that a part is not taken for
		// the whole.
		s.Log.Error("export was cut off", "incident", id)
		panic(http.ErrAbortHandler)
	}
	return nil
}
