package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"rekey/activities"
	"rekey/activities/postgres"
)

// fakeEngine is an engine whose results are files of the script: plan.json,
// drill.json and so on. "none" has no parts at all.
func fakeEngine(name string) Engine {
	// The shipped playbooks are checked against the providers that they are for.
	e := Engine{Providers: []activities.Provider{{Descriptor: fakeProvider()}, {Descriptor: postgres.Provider().Descriptor}}, Version: "v0.1.0"}
	if name == "none" {
		return e
	}
	options := func(o any) {
		b, err := json.Marshal(o)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(os.Stderr, "options %s\n", b)
	}
	e.Up = func(_ context.Context, o UpOptions, _ IOStreams) error { options(o); return nil }
	e.Worker = func(_ context.Context, o WorkerOptions, _ IOStreams) error { options(o); return nil }
	e.Serve = func(_ context.Context, o ServeOptions, _ IOStreams) error { options(o); return nil }
	e.Lab = func(_ context.Context, o LabOptions, _ IOStreams) error { options(o); return nil }
	e.Plan = func(_ context.Context, o PlanOptions, _ IOStreams) (PlanResult, error) {
		options(o)
		return fromFile[PlanResult]("plan.json")
	}
	e.Check = func(_ context.Context, o CheckOptions, _ IOStreams) (CheckResult, error) {
		options(o)
		return fromFile[CheckResult]("check.json")
	}
	e.Drill = func(_ context.Context, o DrillOptions, _ IOStreams) (DrillSession, error) {
		options(o)
		r, err := fromFile[DrillResult]("drill.json")
		s := DrillSession{Result: r}
		if o.Keep {
			s.Keep = func(context.Context) error { fmt.Fprintln(os.Stderr, "kept"); return nil }
		}
		return s, err
	}
	e.Bench = func(_ context.Context, o BenchOptions, _ IOStreams) (BenchResult, error) {
		options(o)
		return fromFile[BenchResult]("bench.json")
	}
	e.Doctor = func(_ context.Context, o DoctorOptions, _ IOStreams) (DoctorResult, error) {
		options(o)
		return fromFile[DoctorResult]("doctor.json")
	}
	return e
}

func fromFile[T any](name string) (T, error) {
	var v T
	raw, err := os.ReadFile(name)
	if err != nil {
		return v, fmt.Errorf("the engine has no %s", name)
	}
	return v, json.Unmarshal(raw, &v)
}

// fakeProvider looks like AWS IAM, without linking its SDK.
func fakeProvider() activities.Descriptor {
	verbs := map[activities.Verb]activities.VerbInfo{}
	for _, v := range activities.Verbs() {
		verbs[v] = activities.VerbInfo{Support: activities.ByAPI, Reversible: v != activities.Revoke && v != activities.Issue, Idempotent: v != activities.Issue, Permissions: []string{"iam:" + string(v)}, Proof: activities.ForeignServer}
	}
	verbs[activities.Restore] = activities.VerbInfo{Support: activities.ByHuman, Steps: "docs/providers/awsiam.md#restore"}
	id := regexp.MustCompile(`^AKIA[A-Z2-7]{16}$`)
	return activities.Descriptor{
		Code: "awsiam", Name: "AWS IAM", Docs: "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html",
		Kinds: []activities.KindInfo{
			{Kind: "user-access-key", Recogniser: "AKIA + 16", Verbs: verbs, Propagation: 15 * time.Second, SessionsOutlive: true, ProbeWithoutSecret: true},
			{Kind: "sts-session", Recogniser: "ASIA + 16", Verbs: map[activities.Verb]activities.VerbInfo{activities.EndSessions: verbs[activities.EndSessions]}, Propagation: 15 * time.Second},
		},
		Limits:     []activities.Limit{{API: "cloudtrail:LookupEvents", Rate: "2/s", Per: "account+region"}},
		ReadPolicy: `{"Version":"2012-10-17"}`, WritePolicy: `{"Version":"2012-10-17","Statement":[]}`,
		Secrets: []string{`[A-Za-z0-9/+=]{40}`},
		Stores:  []string{"awssm"},
		CheckID: func(s string) (string, error) {
			if !id.MatchString(s) {
				return "", fmt.Errorf("an access key id is %s and 16 characters", strings.ToUpper("akia"))
			}
			return "user-access-key", nil
		},
	}
}
