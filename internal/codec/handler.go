package codec

import (
	"errors"
	"io"
	"net/http"
	"strings"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"

	"rekey/internal/codec/keyring"
)

const maxBody = 16 << 20

// Options of Handler. All are required.
type Options struct {
	Codec converter.PayloadCodec
	// Origin is the exact origin of the Temporal UI, "http://127.0.0.1:8233".
	Origin string
	// Authenticate says who asks. It sees headers and cookies, never the body.
	Authenticate func(*http.Request) (actor string, ok bool)
	// OnRead is told, before the answer is sent, that actor reads n payloads.
	OnRead func(actor string, n int)
}

// Handler is the codec endpoint for the Temporal UI: POST …/decode. It never
// encodes. Mount it anywhere; codec.endpoint of the UI is the URL without
// "/decode".
//
// How the UI calls it (read in ui-server 2.54.1, and so the reasons of what is
// here): the browser, from the UI's page, sends POST {endpoint}/decode
// ?preserveStorageRefs=true with Content-Type: application/json and X-Namespace,
// which makes every call a CORS call with a preflight. With codec.passAccessToken
// the UI adds Authorization, but only over https and only with the UI's own OIDC
// login; with codec.includeCredentials it sends cookies. A 4xx is shown as
// "could not decode"; a 5xx is retried twice. Search attributes, which are never
// encrypted, are sent too, one by one; refusing them changes nothing on the page.
//
// So the browser is authenticated by Sessions: a cookie of this server, with the
// UI's settings {endpoint, includeCredentials: true}. SameSite=Strict lets it
// through because another port of the same host is the same site
// (https://developer.mozilla.org/docs/Glossary/Site); for that UI and endpoint
// must be opened under one host name (127.0.0.1 and localhost are two) and one
// scheme. Other pages of that host have another origin and are refused before
// the cookie is looked at. Callers that are no browsers send no Origin and pass
// whatever Authenticate takes.
func Handler(o Options) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Vary", "Origin")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if origin := r.Header.Get("Origin"); origin != "" {
			if origin != o.Origin {
				refuse(w, http.StatusForbidden, "this origin is not the configured Temporal UI")
				return
			}
			h.Set("Access-Control-Allow-Origin", o.Origin)
			h.Set("Access-Control-Allow-Credentials", "true")
		}
		switch {
		case r.Method == http.MethodOptions:
			h.Set("Access-Control-Allow-Methods", http.MethodPost)
			h.Set("Access-Control-Allow-Headers", "Content-Type, X-Namespace, Authorization, Authorization-Extras")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
		case strings.HasSuffix(r.URL.Path, "/encode"):
			refuse(w, http.StatusForbidden, "rekey decodes only: nothing is written through the Temporal UI")
		case !strings.HasSuffix(r.URL.Path, "/decode"):
			refuse(w, http.StatusNotFound, "POST to /decode")
		case r.Method != http.MethodPost:
			h.Set("Allow", http.MethodPost)
			refuse(w, http.StatusMethodNotAllowed, "POST to /decode")
		default:
			decode(o, w, r)
		}
	})
}

func decode(o Options, w http.ResponseWriter, r *http.Request) {
	actor, ok := o.Authenticate(r)
	if !ok {
		refuse(w, http.StatusUnauthorized, "sign in to rekey in this browser, under the host name that shows the Temporal UI")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "the request is too large or was cut off")
		return
	}
	var in commonpb.Payloads
	if err := protojson.Unmarshal(body, &in); err != nil {
		refuse(w, http.StatusBadRequest, "not a list of payloads")
		return
	}
	plain, err := o.Codec.Decode(in.GetPayloads())
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, reason(err))
		return
	}
	out, err := protojson.Marshal(&commonpb.Payloads{Payloads: plain})
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, "not a list of payloads")
		return
	}
	o.OnRead(actor, len(plain))
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out) // the reader left; the read is on record
}

func refuse(w http.ResponseWriter, status int, why string) { http.Error(w, why, status) }

func reason(err error) string {
	var missing *keyring.MissingKeyError
	if errors.As(err, &missing) {
		return missing.Error()
	}
	return "a payload is not encrypted by this installation"
}
