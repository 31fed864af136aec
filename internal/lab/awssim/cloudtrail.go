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
	before := len(s.trail)
	records := s.trail
	match := func(*Record) bool { return true }
	if len(in.LookupAttributes) == 1 {
		key, value := in.LookupAttributes[0].AttributeKey, in.LookupAttributes[0].AttributeValue
		m, ok := lookupMatch(key, value)
		if !ok {
			return nil, fail(http.StatusBadRequest, "InvalidLookupAttributesException", "Attribute %q is not known.", key)
		}
		match = m
		if key == "AccessKeyId" {
			records = s.byKey[value]
			before = len(records)
		}
	}
	if in.NextToken != "" {
		n, ok := decodeToken(in.NextToken)
		if !ok || n > len(records) {
			return nil, fail(http.StatusBadRequest, "InvalidNextTokenException", "NextToken is not one of ours.")
		}
		before = n
	}
	out := struct {
		Events    []lookupEvent
		NextToken string `json:",omitempty"`
	}{Events: []lookupEvent{}}
	if c.cut {
		limit = max(1, limit/2)
	}
	for i := before - 1; i >= 0; i-- {
		r := records[i]
		if r.At.Before(from.Add(-maxSkew)) {
			break // records are in world order: everything earlier is older
		}
		if r.LoggedAt.Before(from) || r.LoggedAt.After(to) || r.Region != c.region || !match(r) || s.opt.Hooks.LogGap != nil && s.opt.Hooks.LogGap(r.At) {
			continue
		}
		if len(out.Events) == limit {
			if !c.cut {
				out.NextToken = encodeToken(i + 1)
			}
			return out, nil
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

func lookupMatch(key, value string) (func(*Record) bool, bool) {
	switch key {
	case "AccessKeyId":
		return func(*Record) bool { return true }, true // the index did it
	case "EventId":
		return func(r *Record) bool { return r.EventID == value }, true
	case "EventName":
		return func(r *Record) bool { return r.Action == value }, true
	case "EventSource":
		return func(r *Record) bool { return r.Service+".amazonaws.com" == value }, true
	case "ReadOnly":
		return func(r *Record) bool { return strconv.FormatBool(r.ReadOnly) == value }, true
	case "Username":
		return func(r *Record) bool { return r.username() == value }, true
	case "ResourceName":
		return func(r *Record) bool {
			for _, res := range r.resources() {
				if res.ResourceName == value {
					return true
				}
			}
			return false
		}, true
	case "ResourceType":
		return func(r *Record) bool {
			for _, res := range r.resources() {
				if res.ResourceType == value {
					return true
				}
			}
			return false
		}, true
	default:
		return nil, false
	}
}

// username is what CloudTrail shows: the IAM user, or the session name of a role.
func (r *Record) username() string {
	if r.User != "" {
		return r.User
	}
	if arn, _ := r.Identity["arn"].(string); arn != "" {
		return arn[strings.LastIndexByte(arn, '/')+1:]
	}
	return ""
}

func (r *Record) resources() []lookupResource {
	var out []lookupResource
	for param, kind := range map[string]string{"userName": "AWS::IAM::User", "accessKeyId": "AWS::IAM::AccessKey", "roleName": "AWS::IAM::Role"} {
		if v, ok := r.Params[param].(string); ok {
			out = append(out, lookupResource{kind, v})
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
