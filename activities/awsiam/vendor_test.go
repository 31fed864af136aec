package awsiam_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"rekey/activities"
	"rekey/activities/activitytest"
	"rekey/activities/awsiam"
	"rekey/internal/secret"
)

const (
	vendorAccount = "123456789012"
	engineID      = "AKIAIOSFODNN7EXAMPLE"
	engineARN     = "arn:aws:iam::123456789012:user/rekey-engine"
)

// A vendor imitates the part of AWS that awsiam calls, with one user, "ci". Shapes
// are those of the API references; it checks no signatures (the lab and moto do).
type vendor struct {
	mu       sync.Mutex
	keys     []vendorKey
	policies map[string]string // "user/ci/name" -> document
	events   []map[string]any
	secrets  map[string]map[string][]string // name -> version -> stages
	values   map[string]string              // version -> value
	perUser  int
}

type vendorKey struct {
	activities.KeyState
	user, secret string
}

func newVendor() *vendor {
	return &vendor{policies: map[string]string{}, secrets: map[string]map[string][]string{}, values: map[string]string{}, perUser: 2}
}

// newID makes an id of the vendor's account, as AWS does: see awsiam.AccountOf.
func newID(prefix string) string {
	var raw [10]byte
	_, _ = rand.Read(raw[:])
	var account uint64
	_, _ = fmt.Sscan(vendorAccount, &account)
	z := 1<<47 | account<<7 | uint64(raw[5]&0x7f)
	for i := range 6 {
		raw[i] = byte(z >> (8 * (5 - i)))
	}
	return prefix + base32.StdEncoding.EncodeToString(raw[:])
}

func (v *vendor) addKey(user string) vendorKey {
	k := vendorKey{KeyState: activities.KeyState{ID: newID("AKIA"), Active: true, Created: time.Now().UTC().Truncate(time.Second)}, user: user, secret: activitytest.Canary()}
	v.keys = append(v.keys, k)
	return k
}

func (v *vendor) state() []activities.KeyState {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := []activities.KeyState{}
	for _, k := range v.keys {
		out = append(out, k.KeyState)
	}
	slices.SortFunc(out, func(a, b activities.KeyState) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// log writes an event of the call as CloudTrail does.
func (v *vendor) log(r *http.Request, name, by, arn string, request, response map[string]any) {
	v.events = append(v.events, map[string]any{
		"eventID": uuid.NewString(), "eventTime": time.Now().UTC().Format(time.RFC3339), "eventName": name, "eventSource": "iam.amazonaws.com",
		"awsRegion": "us-east-1", "sourceIPAddress": "192.0.2.1", "userAgent": r.UserAgent(),
		"userIdentity":      map[string]any{"type": "IAMUser", "arn": arn, "accessKeyId": by},
		"requestParameters": request, "responseElements": response,
	})
}

func signer(r *http.Request) string {
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	id, _, _ := strings.Cut(rest, "/")
	return id
}

func (v *vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w.Header().Set("X-Amzn-Requestid", uuid.NewString())
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		v.json(w, r, target[strings.LastIndex(target, ".")+1:])
		return
	}
	_ = r.ParseForm()
	if by := signer(r); by != engineID && !slices.ContainsFunc(v.keys, func(k vendorKey) bool { return k.ID == by && k.Active }) {
		refuse(w, r, http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid.")
		return
	}
	v.query(w, r)
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	if r.Header.Get("X-Amz-Target") != "" {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": "com.amazonaws#" + code, "message": message})
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>%s</RequestId></ErrorResponse>`,
		code, html.EscapeString(message), uuid.NewString())
}

func (v *vendor) query(w http.ResponseWriter, r *http.Request) {
	f := r.Form
	action, user := f.Get("Action"), f.Get("UserName")
	ok := func(result string) {
		w.Header().Set("Content-Type", "text/xml")
		_, _ = fmt.Fprintf(w, `<%sResponse><%sResult>%s</%sResult></%sResponse>`, action, action, result, action, action)
	}
	none := func() { refuse(w, r, http.StatusNotFound, "NoSuchEntity", "The user or key cannot be found.") }
	at := slices.IndexFunc(v.keys, func(k vendorKey) bool { return k.ID == f.Get("AccessKeyId") })
	policy := "user/" + user + "/" + f.Get("PolicyName")
	if role := f.Get("RoleName"); role != "" {
		policy = "role/" + role + "/" + f.Get("PolicyName")
	}
	switch action {
	case "GetCallerIdentity":
		arn := "arn:aws:iam::" + vendorAccount + ":user/ci"
		if signer(r) == engineID {
			arn = engineARN
		}
		ok("<Account>" + vendorAccount + "</Account><Arn>" + arn + "</Arn><UserId>AIDA</UserId>")
	case "GetUser":
		if user == "" {
			user = "ci"
		}
		ok("<User><UserName>" + user + "</UserName><Path>/</Path><UserId>AIDA</UserId><Arn>arn:aws:iam::" + vendorAccount + ":user/" + user + "</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate></User>")
	case "GetAccessKeyLastUsed":
		if at < 0 {
			none()
			return
		}
		ok("<UserName>" + v.keys[at].user + "</UserName><AccessKeyLastUsed><ServiceName>N/A</ServiceName><Region>N/A</Region></AccessKeyLastUsed>")
	case "ListAccessKeys":
		members := ""
		for _, k := range v.keys {
			if k.user == user {
				members += fmt.Sprintf("<member><UserName>%s</UserName><AccessKeyId>%s</AccessKeyId><Status>%s</Status><CreateDate>%s</CreateDate></member>",
					user, k.ID, status(k.Active), k.Created.Format(time.RFC3339))
			}
		}
		ok("<AccessKeyMetadata>" + members + "</AccessKeyMetadata><IsTruncated>false</IsTruncated>")
	case "UpdateAccessKey":
		if at < 0 || v.keys[at].user != user {
			none()
			return
		}
		v.keys[at].Active = f.Get("Status") == "Active"
		ok("")
	case "DeleteAccessKey":
		if at < 0 || v.keys[at].user != user {
			none()
			return
		}
		v.keys = slices.Delete(v.keys, at, at+1)
		ok("")
	case "CreateAccessKey":
		if len(v.keys) >= v.perUser {
			refuse(w, r, http.StatusConflict, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser")
			return
		}
		k := v.addKey(user)
		v.log(r, action, signer(r), engineARN, map[string]any{"userName": user}, map[string]any{"accessKey": map[string]any{"accessKeyId": k.ID, "userName": user}})
		ok(fmt.Sprintf("<AccessKey><UserName>%s</UserName><AccessKeyId>%s</AccessKeyId><Status>Active</Status><SecretAccessKey>%s</SecretAccessKey><CreateDate>%s</CreateDate></AccessKey>",
			user, k.ID, k.secret, k.Created.Format(time.RFC3339)))
	case "PutUserPolicy", "PutRolePolicy":
		v.policies[policy] = f.Get("PolicyDocument")
		ok("")
	case "GetUserPolicy", "GetRolePolicy":
		doc, there := v.policies[policy]
		if !there {
			none()
			return
		}
		ok("<UserName>ci</UserName><PolicyName>" + f.Get("PolicyName") + "</PolicyName><PolicyDocument>" + url.PathEscape(doc) + "</PolicyDocument>")
	case "DeleteUserPolicy", "DeleteRolePolicy":
		if _, there := v.policies[policy]; !there {
			none()
			return
		}
		delete(v.policies, policy)
		ok("")
	case "GetLoginProfile":
		none()
	case "ListUserPolicies", "ListAttachedUserPolicies", "ListGroupsForUser", "ListMFADevices", "ListSSHPublicKeys",
		"ListServiceSpecificCredentials", "ListSigningCertificates", "GetAccountAuthorizationDetails":
		ok("<IsTruncated>false</IsTruncated>")
	default:
		refuse(w, r, http.StatusBadRequest, "InvalidAction", "Could not find operation "+action)
	}
}

func status(active bool) string {
	if active {
		return "Active"
	}
	return "Inactive"
}

func (v *vendor) json(w http.ResponseWriter, r *http.Request, action string) {
	var in struct {
		SecretID            string `json:"SecretId"`
		ClientRequestToken  string
		SecretString        string
		VersionStage        string
		RemoveFromVersionID string `json:"RemoveFromVersionId"`
		LookupAttributes    []struct{ AttributeKey, AttributeValue string }
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	ok := func(out any) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(out)
	}
	versions := v.secrets[in.SecretID]
	if strings.Contains(action, "Secret") && versions == nil {
		refuse(w, r, http.StatusBadRequest, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
		return
	}
	switch action {
	case "LookupEvents":
		out := []map[string]any{}
		for _, e := range v.events {
			if matchesEvent(e, in.LookupAttributes[0].AttributeKey, in.LookupAttributes[0].AttributeValue) {
				raw, _ := json.Marshal(e)
				out = append(out, map[string]any{"EventId": e["eventID"], "CloudTrailEvent": string(raw)})
			}
		}
		ok(map[string]any{"Events": out})
	case "PutSecretValue":
		if old, there := v.values[in.ClientRequestToken]; there && old != in.SecretString {
			refuse(w, r, http.StatusBadRequest, "ResourceExistsException", "exists")
			return
		} else if !there {
			v.values[in.ClientRequestToken] = in.SecretString
			for id, stages := range versions {
				versions[id] = slices.DeleteFunc(stages, func(s string) bool { return s == "AWSPREVIOUS" })
			}
			for id, stages := range versions {
				if slices.Contains(stages, "AWSCURRENT") {
					versions[id] = []string{"AWSPREVIOUS"}
				}
			}
			versions[in.ClientRequestToken] = []string{"AWSCURRENT"}
		}
		ok(map[string]any{"VersionId": in.ClientRequestToken})
	case "DescribeSecret":
		ok(map[string]any{"Name": in.SecretID, "VersionIdsToStages": versions})
	case "UpdateSecretVersionStage":
		versions[in.RemoveFromVersionID] = slices.DeleteFunc(versions[in.RemoveFromVersionID], func(s string) bool { return s == in.VersionStage })
		ok(map[string]any{})
	default:
		refuse(w, r, http.StatusBadRequest, "UnknownOperationException", action)
	}
}

func matchesEvent(e map[string]any, key, value string) bool {
	if key == "AccessKeyId" {
		return e["userIdentity"].(map[string]any)["accessKeyId"] == value
	}
	raw, _ := json.Marshal([]any{e["requestParameters"], e["responseElements"]})
	return strings.Contains(string(raw), `"`+value+`"`)
}

// TestProviderKeepsItsPromises is the harness that every provider goes through.
func TestProviderKeepsItsPromises(t *testing.T) {
	engine := activitytest.Canary()
	activitytest.Run(t, activitytest.Subject{
		Provider: awsiam.Provider(),
		Account: func(url string) activities.Account {
			a := account(url, vendorAccount, engineID, engine)
			a.Settings["timeout"] = "500ms"
			return a
		},
		World: func(t *testing.T, store *activitytest.Store, url string) activitytest.World {
			v := newVendor()
			k := v.addKey("ci")
			v.secrets["ci/aws"] = map[string][]string{"v1": {"AWSCURRENT"}}
			ref := activities.Ref{Incident: incident, Token: incident + "/1", Attempt: 1, Secret: "report/1",
				Key: activities.Key{Provider: awsiam.Code, Account: "test", Kind: awsiam.KindUser, ID: k.ID, Principal: "ci"}}
			sealed := func(handle, value string) {
				require.NoError(t, store.Seal(t.Context(), secret.Ref{Incident: incident, Handle: handle, Provider: awsiam.Code, Origin: url}, secret.New([]byte(value))))
			}
			sealed("report/1", k.secret)
			sealed("new/1", fmt.Sprintf(`{"access_key_id":%q,"secret_access_key":%q}`, k.ID, k.secret))
			return activitytest.World{
				Vendor: v, Ref: ref, Keys: v.state,
				AddKey: func() string {
					v.mu.Lock()
					defer v.mu.Unlock()
					k := v.addKey("ci")
					v.log(&http.Request{Header: http.Header{"User-Agent": {"aws-cli/2.15"}}}, "CreateAccessKey", newID("AKIA"), "arn:aws:iam::123456789012:user/mallory",
						map[string]any{"userName": "ci"}, map[string]any{"accessKey": map[string]any{"accessKeyId": k.ID}})
					return k.ID
				},
				Throttle: func(w http.ResponseWriter, r *http.Request, canary string) {
					w.Header().Set("Retry-After", "7")
					w.Header().Set("X-Amzn-Requestid", canary)
					refuse(w, r, http.StatusBadRequest, "Throttling", "Rate exceeded "+canary)
				},
				Refuse: func(w http.ResponseWriter, r *http.Request, canary string) {
					w.Header().Set("X-Amzn-Requestid", canary)
					refuse(w, r, http.StatusForbidden, "AccessDenied", "User is not authorized "+canary)
				},
			}
		},
		Calls: calls,
	})
}

func calls(w activitytest.World) map[activities.Verb]activitytest.Call {
	ref := w.Ref
	now := time.Now()
	return map[activities.Verb]activitytest.Call{
		activities.Inspect:     do(activities.Inspector.Inspect, activities.InspectRequest{Ref: ref, Since: now.Add(-90 * 24 * time.Hour), Now: now}),
		activities.Disable:     do(activities.Disabler.Disable, ref),
		activities.Restore:     do(activities.Restorer.Restore, activities.RestoreRequest{Ref: ref, Until: now.Add(time.Hour)}),
		activities.Revoke:      do(activities.Revoker.Revoke, ref),
		activities.EndSessions: do(activities.SessionEnder.EndSessions, activities.EndSessionsRequest{Ref: ref, Before: now, Roles: []string{"deploy"}}),
		activities.Deny:        do(activities.Denier.Deny, activities.DenyRequest{Ref: ref}),
		activities.Bind:        do(activities.Binder.Bind, activities.BindRequest{Ref: ref, Allow: []string{"203.0.113.0/24"}}),
		activities.Issue:       do(activities.Issuer.Issue, activities.IssueRequest{Ref: ref, Handle: "harness/new", Before: w.Keys()}),
		activities.Distribute:  do(activities.Distributor.Distribute, activities.DistributeRequest{Ref: ref, Handle: "new/1", NewKeyID: ref.Key.ID, Target: "awssm", Name: "ci/aws"}),
		activities.Probe:       do(activities.Prober.Probe, activities.ProbeRequest{Ref: ref, Mode: activities.ProbeAuth}),
		activities.Sweep:       do(activities.Sweeper.Sweep, activities.SweepRequest{Ref: ref, Since: now, Now: now}),
	}
}

// do binds a verb's method to its request.
func do[C, Req, Res any](method func(C, context.Context, Req) (Res, error), req Req) activitytest.Call {
	return func(ctx context.Context, client any) (any, error) { return method(client.(C), ctx, req) }
}
