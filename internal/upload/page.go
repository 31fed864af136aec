package upload

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"io"
	"net/http"
	"strings"

	"rekey/internal/api"
	"rekey/internal/intake"
	"rekey/internal/secret"
)

// style is the page's only resource; the policy names its hash.
const style = `body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:3rem auto;padding:0 1rem}textarea{width:100%;box-sizing:border-box;font-family:monospace}.no{border-left:4px solid #b00;padding-left:1rem}`

// page has no script and loads nothing. Spelling, completion and capitals are off: a
// keyboard that learns would learn the secret.
const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex, nofollow"><title>rekey: hand over a secret</title><style>` + style + `</style></head><body>
{{if .Taken}}<h1>Taken</h1><p>rekey has the secret of item <code>{{.Taken}}</code>. This link is used up; close the page.</p>
{{else if .Gone}}<h1>This link is not valid</h1><p class="no">It works once and for 15 minutes. Ask for a new one with <code>/rekey upload</code>.</p>
{{else if .Failed}}<h1>Not taken</h1><p class="no">{{.Failed}}</p><p>This link is used up. Ask for a new one with <code>/rekey upload</code>.</p>
{{else}}<h1>Hand over a secret</h1><p>For the key <code>{{.KeyID}}</code> of <code>{{.Provider}}</code>, and no other. It is sealed on arrival and shown to nobody.</p>
{{if .Wrong}}<p class="no">Not taken: {{.Wrong}}</p>{{end}}
<form method="post" enctype="multipart/form-data" autocomplete="off">
<p><label for="secret">The secret, alone:</label><br><textarea id="secret" name="secret" rows="4" autocomplete="off" autocapitalize="off" autocorrect="off" spellcheck="false"></textarea></p>
<p><label for="file">or a file with it:</label> <input id="file" type="file" name="file"></p>
<p><button type="submit">Hand over</button></p></form>{{end}}
</body></html>
`

// shownPage fills page.
type shownPage struct {
	Provider, KeyID, Wrong, Failed, Taken string
	Gone                                  bool
}

func write(w http.ResponseWriter, status int, p shownPage) {
	sum := sha256.Sum256([]byte(style))
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	w.WriteHeader(status)
	_ = template.Must(template.New("page").Parse(page)).Execute(w, p) // the client left: nothing to tell it
}

func (l *Links) show(w http.ResponseWriter, r *http.Request) {
	e, link, _ := l.open(r.PathValue("token"))
	if e == nil {
		write(w, http.StatusNotFound, shownPage{Gone: true})
		return
	}
	e.Close()
	write(w, http.StatusOK, shownPage{Provider: link.Provider, KeyID: link.KeyID})
}

func (l *Links) accept(w http.ResponseWriter, r *http.Request) {
	e, link, name := l.open(r.PathValue("token"))
	if e == nil {
		write(w, http.StatusNotFound, shownPage{Gone: true})
		return
	}
	defer e.Close()
	again := func(status int, wrong string) {
		write(w, status, shownPage{Provider: link.Provider, KeyID: link.KeyID, Wrong: wrong})
	}
	text, err := given(w, r)
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		again(http.StatusRequestEntityTooLarge, "It is larger than 64 KiB. Give the secret alone.")
		return
	case err != nil:
		again(http.StatusBadRequest, "The form cannot be read. Use the form of this page.")
		return
	}
	if wrong := l.fits(link, text); wrong != "" {
		again(http.StatusUnprocessableEntity, wrong)
		return
	}
	first, err := l.Box.First(name, used)
	if err != nil {
		l.Log.Error("an upload link could not be used up", "link", name[:12], "error", err)
		again(http.StatusServiceUnavailable, "rekey could not write to its disk. Try again.")
		return
	}
	if !first {
		write(w, http.StatusNotFound, shownPage{Gone: true})
		return
	}
	answer, err := l.Reports.Report(r.Context(), link.Who, api.ReportRequest{
		Provider: link.Provider, Kind: link.Kind, Account: link.Account, KeyID: link.KeyID, Nonce: nonce(name),
		Secret: base64.StdEncoding.EncodeToString([]byte(text)), Reason: "the secret was handed over by an upload link",
	})
	if done := e.Done(); done != nil {
		l.Log.Error("an upload link could not be forgotten; it is used up all the same", "link", name[:12], "error", done)
	}
	if err != nil {
		failed := "rekey's engine does not answer; nothing was kept."
		status := http.StatusServiceUnavailable
		var no *intake.Refusal
		if errors.As(err, &no) && no.Kind != intake.Unavailable {
			failed, status = no.Body.Message+": "+no.Body.Do, http.StatusUnprocessableEntity
		}
		l.Log.Warn("an uploaded secret was not taken", "actor", link.Who.Actor, "link", name[:12])
		write(w, status, shownPage{Failed: failed})
		return
	}
	l.Log.Info("a secret was uploaded", "actor", link.Who.Actor, "incident", answer.Incident, "item", secret.Short(answer.FP), "link", name[:12])
	write(w, http.StatusOK, shownPage{Taken: secret.Short(answer.FP)})
}

// given reads the secret from the form: the field, or the file where that is empty.
// Everything stays in memory.
func given(w http.ResponseWriter, r *http.Request) (string, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil { // ParseMultipartForm does not tell its error
		return "", err
	}
	err := r.ParseMultipartForm(2 * maxBody) //nolint:gosec // G120: the body is bounded two lines above, below what is kept in memory
	if err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return "", err
	}
	if r.MultipartForm != nil {
		defer func() { _ = r.MultipartForm.RemoveAll() }()
	}
	text := strings.TrimSpace(r.PostFormValue("secret"))
	if text != "" || r.MultipartForm == nil || len(r.MultipartForm.File["file"]) == 0 {
		return text, nil
	}
	f, err := r.MultipartForm.File["file"][0].Open()
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(f)
	if err != nil {
		return "", err
	}
	defer clear(raw)
	return strings.TrimSpace(string(raw)), nil
}
