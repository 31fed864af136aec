package awsiam

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"

	"rekey/activities"
)

// Limits of what is read of the trail.
const (
	// retention is how far back LookupEvents goes,
	// https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_LookupEvents.html
	retention = 90 * 24 * time.Hour
	pageSize  = 50 // the largest LookupEvents gives
	// maxEvents of one key in one region; what is beyond is listed as unseen. At
	// two pages a second this is the work of 100 s.
	maxEvents = 10_000
	// maxSessions are followed, newest first.
	maxSessions = 100
)

// An event is one CloudTrail record, cut to what is used,
// https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html.
type event struct {
	ID      string    `json:"eventID"`
	Time    time.Time `json:"eventTime"`
	Name    string    `json:"eventName"`
	Service string    `json:"eventSource"`
	Region  string    `json:"awsRegion"`
	Source  string    `json:"sourceIPAddress"`
	Agent   string    `json:"userAgent"`
	Error   string    `json:"errorCode"`
	Who     struct {
		Type    string `json:"type"`
		ARN     string `json:"arn"`
		Key     string `json:"accessKeyId"`
		User    string `json:"userName"`
		Session struct {
			Issuer struct {
				Type string `json:"type"`
				User string `json:"userName"`
			} `json:"sessionIssuer"`
		} `json:"sessionContext"`
	} `json:"userIdentity"`
	Request  map[string]any `json:"requestParameters"`
	Response map[string]any `json:"responseElements"`
}

// ours tells whether rekey itself made the call. The mark is text that anybody
// can copy, so it covers only what a probe does with a key that is not ours.
func (e event) ours() bool {
	return strings.Contains(e.Agent, markProduct) && (e.Name == "GetCallerIdentity" || e.Name == "GetUser")
}

// call is "iam:CreateUser".
func (e event) call() string {
	return strings.TrimSuffix(e.Service, ".amazonaws.com") + ":" + e.Name
}

// text finds a string in nested objects.
func text(m map[string]any, path ...string) string {
	var at any = m
	for _, p := range path {
		o, ok := at.(map[string]any)
		if !ok {
			return ""
		}
		at = o[p]
	}
	s, _ := at.(string)
	return s
}

// A reading is what was read of the trail, and what was not.
type reading struct {
	events []event
	unseen []activities.Unseen
	// blind are the regions of which nothing, or not all, could be read, each with
	// the time from which on it was read.
	blind map[string]time.Time
}

// lookup reads all events with the attribute since the time given, newest first,
// from every region at once. It fails only when the whole is worth another try:
// throttled, or a service that is down for now, and not yet the last attempt.
func (c *Client) lookup(ctx context.Context, l *log, attr types.LookupAttributeKey, value string, since, now time.Time, patience bool) (reading, *activities.Fault) {
	type part struct {
		region string
		log    *log
		events []event
		broken int
		from   time.Time
		fault  *activities.Fault
	}
	if !since.Before(now) { // CloudTrail refuses an empty span
		now = since.Add(time.Second)
	}
	regions := c.allRegions()
	parts := make([]part, len(regions))
	var wg sync.WaitGroup
	for i, region := range regions {
		parts[i] = part{region: region, log: &log{c: c}}
		wg.Add(1)
		go func(p *part) {
			defer wg.Done()
			p.events, p.broken, p.from, p.fault = c.lookupRegion(ctx, p.log, region, attr, value, since, now)
		}(&parts[i])
	}
	wg.Wait()
	out := reading{blind: map[string]time.Time{}}
	seen := map[string]bool{}
	for _, p := range parts {
		l.evidence = append(l.evidence, p.log.evidence...)
		source := "cloudtrail/" + p.region
		if p.broken > 0 {
			out.unseen = append(out.unseen, activities.Unseen{Source: source, Why: "events that cannot be parsed"})
		}
		if !p.from.IsZero() {
			out.blind[p.region] = p.from
			out.unseen = append(out.unseen, activities.Unseen{Source: source, Why: "more events than are read at once; the oldest are missing"})
		}
		if p.fault != nil {
			if ctx.Err() != nil || patience && passing(p.fault) {
				return reading{}, p.fault
			}
			out.blind[p.region] = now
			out.unseen = append(out.unseen, unseen(source, p.fault))
		}
		for _, e := range p.events {
			// One endpoint may stand for several regions; an event counts once.
			if e.ID != "" && seen[e.ID] {
				continue
			}
			seen[e.ID] = true
			out.events = append(out.events, e)
		}
	}
	slices.SortFunc(out.events, func(a, b event) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

func (c *Client) lookupRegion(ctx context.Context, l *log, region string, attr types.LookupAttributeKey, value string, since, now time.Time) (events []event, broken int, from time.Time, f *activities.Fault) {
	const op = "cloudtrail:LookupEvents"
	var next *string
	for range 2 * maxEvents / pageSize { // pages may be short, or empty
		if err := c.pace[region].Wait(ctx); err != nil {
			return events, broken, from, &activities.Fault{Class: activities.ClassTransient, Op: op, Detail: cancelled}
		}
		page, f := call(ctx, l, op, reads, func(ctx context.Context) (*cloudtrail.LookupEventsOutput, error) {
			return c.trail[region].LookupEvents(ctx, &cloudtrail.LookupEventsInput{
				LookupAttributes: []types.LookupAttribute{{AttributeKey: attr, AttributeValue: &value}},
				StartTime:        &since, EndTime: &now, MaxResults: aws.Int32(pageSize), NextToken: next,
			})
		})
		if f != nil {
			return events, broken, from, f
		}
		for _, raw := range page.Events {
			var e event
			if json.Unmarshal([]byte(aws.ToString(raw.CloudTrailEvent)), &e) != nil || e.Name == "" {
				broken++
				continue
			}
			if e.ID == "" {
				e.ID = aws.ToString(raw.EventId)
			}
			events = append(events, e)
		}
		if next = page.NextToken; aws.ToString(next) == "" {
			return events, broken, from, nil
		}
		if len(events)+broken >= maxEvents {
			break
		}
	}
	from = now
	if n := len(events); n > 0 {
		from = events[n-1].Time
	}
	return events, broken, from, nil
}

// unseen says what could not be read and which right is missing for it.
func unseen(source string, f *activities.Fault) activities.Unseen {
	u := activities.Unseen{Source: source, Why: string(f.Class) + ": " + f.Detail, Permission: f.Permission}
	if f.Detail == notImplemented || absent(f) {
		u.Why = notImplemented
	}
	return u
}

// issuerOf finds the principal behind a session by the events it left.
func (c *Client) issuerOf(ctx context.Context, l *log, id string) (principal, *activities.Fault) {
	const op = "cloudtrail:LookupEvents"
	now := c.now(ctx)
	r, f := c.lookup(ctx, l, types.LookupAttributeKeyAccessKeyId, id, now.Add(-retention), now, true)
	if f != nil {
		return principal{}, f
	}
	for _, e := range r.events {
		if p, ok := e.principal(); ok {
			return p, nil
		}
	}
	for _, u := range r.unseen {
		if u.Permission != "" {
			return principal{}, &activities.Fault{Class: activities.ClassDenied, Op: op, Permission: u.Permission, Detail: "the session's principal cannot be looked up; name it in the report"}
		}
	}
	return principal{}, invalid(op, "nothing is known of the session's principal; name it in the report, a role as role/NAME")
}

// principal is who acted.
func (e event) principal() (principal, bool) {
	switch issuer := e.Who.Session.Issuer; {
	case issuer.Type == "Role" && issuer.User != "":
		return principal{name: issuer.User, role: true}, true
	case issuer.User != "":
		return principal{name: issuer.User}, true
	case e.Who.Type == "IAMUser" && e.Who.User != "":
		return principal{name: e.Who.User}, true
	}
	return principal{}, false
}
