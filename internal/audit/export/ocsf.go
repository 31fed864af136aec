package export

import (
	"io"

	"rekey/internal/audit"
	"rekey/internal/canon"
)

// OCSFVersion is the schema that [OCSF] writes (https://schema.ocsf.io).
const OCSFVersion = "1.8.0"

// Classes of OCSF: category, class and the attributes that they require.
const (
	classIncident    = 2005 // Incident Finding: activity_id, finding_info_list, status_id
	classEntity      = 3004 // Entity Management: entity
	classRemediation = 7001 // Remediation Activity: command_uid
)

// Activities.
const (
	incidentCreate, incidentUpdate, incidentClose                             = 1, 2, 3
	entityCreate, entityDelete, entityEnable, entityDisable                   = 1, 4, 8, 9
	remediationIsolate, remediationEvict, remediationRestore, remediationHard = 1, 2, 3, 4
)

type ocsf struct {
	ActivityID  int      `json:"activity_id"`
	CategoryUID int      `json:"category_uid"`
	ClassUID    int      `json:"class_uid"`
	TypeUID     int      `json:"type_uid"`
	SeverityID  int      `json:"severity_id"`
	Time        int64    `json:"time"`
	Message     string   `json:"message"`
	Metadata    metadata `json:"metadata"`
	StatusID    int      `json:"status_id"`
	// Status is the word of the source where status_id is Other.
	Status      string            `json:"status,omitempty"`
	CommandUID  string            `json:"command_uid,omitempty"`
	Entity      *entity           `json:"entity,omitempty"`
	FindingInfo []finding         `json:"finding_info_list,omitempty"`
	Assignee    *user             `json:"assignee,omitempty"`
	Unmapped    map[string]string `json:"unmapped,omitempty"`
}

type metadata struct {
	Version       string   `json:"version"`
	Product       product  `json:"product"`
	UID           string   `json:"uid"`
	EventCode     string   `json:"event_code"`
	OriginalTime  string   `json:"original_time"`
	Sequence      int64    `json:"sequence"`
	CorrelationID string   `json:"correlation_uid"`
	Profiles      []string `json:"profiles,omitempty"`
}

type product struct {
	Name       string `json:"name"`
	VendorName string `json:"vendor_name"`
}

type entity struct {
	UID  string `json:"uid"`
	Name string `json:"name,omitempty"`
	Type string `json:"type"`
}

type finding struct {
	UID   string `json:"uid"`
	Title string `json:"title"`
}

type user struct {
	Name string `json:"name"`
}

// OCSF writes one JSON object a line: the incident and what is decided about it as
// Incident Finding (2005), each act against a key and each probe as Remediation
// Activity (7001), and each confirmed change of a key object as Entity Management
// (3004) besides. What has no attribute stands in unmapped.
func OCSF(w io.Writer, events []audit.Event) error {
	for i := range events {
		e := &events[i]
		for _, record := range mapped(e) {
			line, err := canon.JSON(record)
			if err != nil {
				return err
			}
			if _, err := w.Write(append(line, '\n')); err != nil {
				return err
			}
		}
	}
	return nil
}

func mapped(e *audit.Event) []ocsf {
	switch e.Type {
	case audit.EventCallAttempted, audit.EventCallConfirmed, audit.EventCallFailed, audit.EventProbe, audit.EventLadder:
		if activity, ok := changes(e); ok && e.Type == audit.EventCallConfirmed {
			return []ocsf{remediation(e), entityChange(e, activity)}
		}
		return []ocsf{remediation(e)}
	case audit.EventReissued:
		return []ocsf{entityChange(e, entityCreate)}
	}
	return []ocsf{incident(e)}
}

func record(e *audit.Event, class, activity, status int, suffix string) ocsf {
	at, _ := millis(e.Time)
	unmapped := map[string]string{}
	for key, value := range map[string]string{"actor": e.Actor, "auth": e.Auth, "fp": e.FP, "phase": e.Phase, "result": e.Result, "rule": e.Rule, "approval": e.Approval, "verb": e.Verb, "request_id": e.RequestID} {
		if value != "" {
			unmapped[key] = value
		}
	}
	for key, value := range e.Attrs {
		unmapped["attrs."+key] = value
	}
	message := e.Type
	if e.Verb != "" {
		message += " " + e.Verb
	}
	if e.Result != "" {
		message += ": " + e.Result
	}
	out := ocsf{
		ActivityID: activity, CategoryUID: class / 1000, ClassUID: class, TypeUID: class*100 + activity,
		SeverityID: severity(*e), Time: at, Message: message, StatusID: status, Unmapped: unmapped,
		Metadata: metadata{
			Version: OCSFVersion, Product: product{"rekey", "rekey"}, UID: uid(e) + suffix, EventCode: e.Type,
			OriginalTime: e.Time, Sequence: e.Seq, CorrelationID: e.Incident,
		},
	}
	if status == 99 {
		out.Status = e.Result
	}
	return out
}

func incident(e *audit.Event) ocsf {
	activity, status := incidentUpdate, 2 // In Progress
	switch e.Type {
	case audit.EventOpened:
		activity, status = incidentCreate, 1 // New
	case audit.EventClosed:
		activity, status = incidentClose, 4 // Resolved: contained, with open actions
		if e.Result == "all-clear" {
			status = 5 // Closed
		}
	case audit.EventHoldSet, audit.EventHuman, audit.EventApprovalAsked:
		status = 3 // On Hold: waits for a person
	}
	out := record(e, classIncident, activity, status, "")
	out.Metadata.Profiles = []string{"incident"}
	out.FindingInfo = []finding{{UID: e.Incident, Title: "key compromise " + e.Incident}}
	out.Assignee = &user{Name: e.Actor} // at least one of assignee and assignee_group
	return out
}

func remediation(e *audit.Event) ocsf {
	activity := remediationEvict
	switch e.Verb {
	case "Deny":
		activity = remediationIsolate
	case "Restore", "Issue", "Distribute":
		activity = remediationRestore
	case "Bind":
		activity = remediationHard
	}
	status := 0 // Unknown: attempted, or unclear
	switch e.Result {
	case "done", "refused", audit.ProbeDead:
		status = 1 // Success; a refused probe is what was wanted
	case "denied", "alive", "mismatch":
		status = 2 // Failure
	case "already-gone":
		status = 3 // Does Not Exist
	case "done-async":
		status = 4 // Partial: accepted
	case "unsupported":
		status = 5
	case "assumed", "needs-human":
		status = 99
	}
	out := record(e, classRemediation, activity, status, "")
	out.CommandUID = e.Token
	if out.CommandUID == "" {
		out.CommandUID = uid(e)
	}
	return out
}

// changes tells what a confirmed call did to the key object.
func changes(e *audit.Event) (int, bool) {
	if e.Result != "done" {
		return 0, false
	}
	switch e.Verb {
	case "Disable":
		return entityDisable, true
	case "Restore":
		return entityEnable, true
	case "Revoke":
		return entityDelete, true
	}
	return 0, false
}

func entityChange(e *audit.Event, activity int) ocsf {
	out := record(e, classEntity, activity, 1, "/entity")
	id := e.FP
	if activity == entityCreate && e.Attrs[audit.AttrNewKeyID] != "" {
		id = e.Attrs[audit.AttrNewKeyID]
	}
	out.Entity = &entity{UID: id, Name: e.Attrs[audit.AttrKeyID], Type: "credential"}
	return out
}

// uid identifies an event across exports.
func uid(e *audit.Event) string {
	line, err := audit.Encode(*e)
	if err != nil {
		return e.Incident
	}
	return audit.Leaf(line).String()
}

// severity in OCSF's numbers: 1 informational, 3 medium, 4 high.
func severity(e audit.Event) int {
	switch e.Type {
	case audit.EventTripwire, audit.EventBreakGlass, audit.EventLadder:
		return 4
	case audit.EventRefused, audit.EventCallFailed, audit.EventGap, audit.EventApprovalExpired, audit.EventHuman, audit.EventRecordBehind:
		return 3
	}
	return 1
}
