package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"

	"rekey/internal/health"
	"rekey/internal/intake"
	"rekey/internal/view"
)

// A problem is an answer that is a refusal.
type problem struct {
	status int
	body   view.ErrorBody
	cause  error // for the log
}

func (p *problem) Error() string { return p.body.Code + ": " + p.body.Message }
func (p *problem) Unwrap() error { return p.cause }

func bad(status int, code, do, format string, args ...any) error {
	return &problem{status: status, body: view.ErrorBody{Code: code, Message: fmt.Sprintf(format, args...), Do: do}}
}

// answer runs a handler and turns its error into a refusal.
func (s *Server) answer(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		p := toProblem(err)
		s.refuse(r, p.body.Code)
		if p.cause != nil {
			s.Log.ErrorContext(r.Context(), "request failed", "route", r.Pattern, "code", p.body.Code, "error", s.Redact.String(p.cause.Error()))
		}
		if p.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "2")
		}
		write(w, p.status, p.body)
	})
}

func toProblem(err error) *problem {
	var p *problem
	var refused *Refused
	var rejected *intake.Refusal
	var unready *health.Problem
	switch {
	case errors.As(err, &unready):
		return &problem{status: http.StatusServiceUnavailable, body: unready.Body}
	case errors.As(err, &p):
		return p
	case errors.As(err, &refused):
		return &problem{status: http.StatusConflict, body: refused.Body}
	case errors.As(err, &rejected):
		status := map[intake.Kind]int{
			intake.Malformed: http.StatusBadRequest, intake.Forbidden: http.StatusForbidden, intake.Unavailable: http.StatusServiceUnavailable,
		}[rejected.Kind]
		return &problem{status: status, body: rejected.Body, cause: rejected.Cause}
	case errors.Is(err, ErrUnknown):
		return &problem{status: http.StatusNotFound, body: view.ErrorBody{Code: view.CodeNotFound, Message: "there is nothing of that name", Do: "`rekey incident list` shows what there is"}}
	case errors.Is(err, context.Canceled):
		return &problem{status: http.StatusServiceUnavailable, body: view.ErrorBody{Code: intake.CodeUnreachable, Message: "the request was given up", Do: "send it again"}}
	}
	return &problem{
		status: http.StatusServiceUnavailable, cause: err,
		body: view.ErrorBody{Code: intake.CodeUnreachable, Message: "Temporal or the worker does not answer", Do: "is `rekey up` (or the Temporal cluster and `rekey worker`) running? Try again; `rekey doctor` looks for the reason"},
	}
}

func write(w http.ResponseWriter, status int, e view.ErrorBody) {
	respond(w, status, view.Error{Error: e})
}

func respond(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status = http.StatusInternalServerError
		body = []byte(`{"error":{"code":"internal","message":"the answer cannot be written","do":"look at the server's log"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client left: nothing to tell it
}

var fieldRE = regexp.MustCompile(`unknown field "([a-z_]{1,32})"`)

// read decodes one JSON document of at most limit bytes into v. Its errors name
// a field at most, never a value.
func read(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return bad(http.StatusUnsupportedMediaType, view.CodeInvalid, "send Content-Type: application/json", "the body is not said to be JSON")
	}
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if !errors.As(err, new(*http.MaxBytesError)) {
			return bad(http.StatusBadRequest, view.CodeInvalid, "send one document", "more than one JSON document in the body")
		}
	}
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return tooLarge(limit)
	case errors.As(err, &wrong):
		return bad(http.StatusBadRequest, view.CodeInvalid, "look at the API's description", "the field %q has a value of another type", wrong.Field)
	case errors.As(err, &syntax):
		return bad(http.StatusBadRequest, view.CodeInvalid, "send valid JSON", "not JSON at byte %d", syntax.Offset)
	}
	if m := fieldRE.FindStringSubmatch(err.Error()); m != nil {
		return bad(http.StatusBadRequest, view.CodeInvalid, "leave it out, or bring client and server to one version", "the field %q is not known", m[1])
	}
	return bad(http.StatusBadRequest, view.CodeInvalid, "send one JSON object as the API's description has it", "the body cannot be read")
}

func tooLarge(limit int64) error {
	return bad(http.StatusRequestEntityTooLarge, view.CodeInvalid, "send less: keep the part of the evidence that shows the key", "the body is larger than %d MiB", limit>>20)
}
