package awssim

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

func cloudtrailOps() map[string]operation {
	return map[string]operation{
		"cloudtrail:LookupEvents": {read: true, verb: "Inspect", resource: anything, run: lookupEvents},
	}
}

type lookupInput struct {
	LookupAttributes []struct{ AttributeKey, AttributeValue string }
	StartTime        *float64
	EndTime          *float64
	MaxResults       *int
	NextToken        string
}

type lookupEvent struct {
	EventId         string
	EventName       string
	ReadOnly        string
	AccessKeyId     string
	EventTime       float64
	EventSource     string
	Username        string `json:",omitempty"`
	Resources       []lookupResource
	CloudTrailEvent string
}

type lookupResource struct {
	ResourceType string
	ResourceName string
}

// maxSkew bounds how far the provider's clock may be off, so that a look-up can stop early.
const maxSkew = time.Hour

// lookupEvents: one attribute, at most 50 a page, newest first, management events of this region
// within the retention
// (https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html).
func lookupEvents(s *Sim, c *call) (any, *APIError) {
	var in lookupInput
	if err := c.input(&in); err != nil {
		return nil, err
	}
	if len(in.LookupAttributes) > 1 {
		return nil, fail(http.StatusBadRequest, "InvalidLookupAttributesException", "Only one lookup attribute is allowed.")
	}
	limit := 50
	if in.MaxResults != nil {
		if limit = *in.MaxResults; limit < 1 || limit > 50 {
			return nil, fail(http.StatusBadRequest, "InvalidMaxResultsException", "MaxResults must be 1 to 50.")
		}
	}
	from := c.now.Add(-s.opt.Retention)
	to := c.now.Add(time.Hour) // events of a fast clock are still in
	if in.StartTime != nil {
		if t := epoch(*in.StartTime); t.After(from) {
			from = t
		}
	}
	if in.EndTime != nil {
		to = epoch(*in.EndTime)
	}
	if in.StartTime != nil && in.EndTime != nil && *in.StartTime > *in.EndTime {
		return nil, fail(http.StatusBadRequest, "InvalidTimeRangeException", "StartTime is after EndTime.")
	}
	key, value := "", ""
	if len(in.LookupAttributes) == 1 {
		key, value = in.LookupAttributes[0].AttributeKey, in.LookupAttributes[0].AttributeValue
	}
	w, ok := s.walk(key, value)
	if !ok || key == "" && len(in.LookupAttributes) == 1 {
		return nil, fail(http.StatusBadRequest, "InvalidLookupAttributesException", "Attribute %q is not known.", key)
	}
	before := w.len(&s.trail)
	if in.NextToken != "" {
		n, ok := decodeToken(in.NextToken)
		if !ok || n > before {
			return nil, fail(http.StatusBadRequest, "InvalidNextTokenException", "NextToken is not one of ours.")
		}
		before = n
	}
	if c.cut {
		limit = max(1, limit/2)
	}
	region := s.trail.word(c.region)
	var found []int64
	next := ""
	for i := before - 1; i >= 0; i-- {
		e := w.at(&s.trail, i)
		if e.time().Before(from.Add(-maxSkew)) {
			break // records are in world order: everything earlier is older
		}
		logged := e.logged()
		if logged.Before(from) || logged.After(to) || e.region != region || w.match != nil && !w.match(e) || s.opt.Hooks.LogGap != nil && s.opt.Hooks.LogGap(e.time()) {
			continue
		}
		if len(found) == limit {
			if !c.cut {
				next = encodeToken(i + 1)
			}
			break
		}
		found = append(found, e.at)
	}
	return deferred(func() (any, *APIError) { return s.events(found, next) }), nil
}

// deferred is a result that is put together outside the owner's lock.
type deferred func() (any, *APIError)

// events reads the records of one page of a look-up.
func (s *Sim) events(found []int64, next string) (any, *APIError) {
	out := struct {
		Events    []lookupEvent
		NextToken string `json:",omitempty"`
	}{Events: []lookupEvent{}, NextToken: next}
	for _, at := range found {
		r, err := s.opt.Journal.Record(at)
		if err != nil {
			return nil, fail(http.StatusInternalServerError, "InternalFailure", "the lab cannot read its trail")
		}
		out.Events = append(out.Events, s.event(r))
	}
	return out, nil
}

// encodeToken names how many records, oldest first, are still to be read: records are only ever
// added at the end, so a page stays put while new events arrive.
func encodeToken(n int) string {
	return base64.StdEncoding.EncodeToString([]byte("next:" + strconv.Itoa(n)))
}

func decodeToken(t string) (int, bool) {
	raw, err := base64.StdEncoding.DecodeString(t)
	if err != nil {
		return 0, false
	}
	text, ok := strings.CutPrefix(string(raw), "next:")
	if !ok {
		return 0, false
	}
	return number(text)
}

func epoch(seconds float64) time.Time {
	return time.UnixMilli(int64(seconds * 1000)).UTC()
}

func (r *Record) resources() []lookupResource {
	var out []lookupResource
	for _, k := range resourceKinds {
		if v, ok := r.Params[k.param].(string); ok {
			out = append(out, lookupResource{k.kind, v})
		}
	}
	return out
}

// event renders a record as LookupEvents gives it
// (https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html).
func (s *Sim) event(r *Record) lookupEvent {
	body := map[string]any{
		"eventVersion": "1.08", "userIdentity": r.Identity, "eventTime": isoTime(r.LoggedAt), "eventSource": r.Service + ".amazonaws.com",
		"eventName": r.Action, "awsRegion": r.Region, "sourceIPAddress": r.SourceIP, "userAgent": r.UserAgent, "requestID": r.RequestID,
		"eventID": r.EventID, "readOnly": r.ReadOnly, "eventType": "AwsApiCall", "managementEvent": true, "recipientAccountId": s.opt.Account,
		"eventCategory": "Management", "requestParameters": r.Params, "responseElements": r.Elements,
	}
	if r.Code != "" {
		body["errorCode"], body["errorMessage"] = r.Code, r.Message
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic("awssim: event does not marshal: " + err.Error())
	}
	return lookupEvent{EventId: r.EventID, EventName: r.Action, ReadOnly: strconv.FormatBool(r.ReadOnly), AccessKeyId: r.KeyID,
		EventTime: float64(r.LoggedAt.UnixMilli()) / 1000, EventSource: r.Service + ".amazonaws.com", Username: r.username(),
		Resources: r.resources(), CloudTrailEvent: string(text)}
}
