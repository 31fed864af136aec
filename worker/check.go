package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"rekey/activities"
	"rekey/activities/all"
	"rekey/activities/awsiam"
	"rekey/internal/cli"
	"rekey/internal/config"
	"rekey/internal/httpx"
)

// checkLimit bounds the check of one account.
const checkLimit = time.Minute

// What can be told of a permission of ours without using it.
const (
	allowed = activities.RightAllowed
	denied  = activities.RightDenied
	unknown = activities.RightUnknown // it cannot be told without doing it
)

// A selfCheck asks a provider about our own credential. It only reads. Errors are
// *selfFault or *activities.Fault.
type selfCheck = activities.SelfChecker

// A selfFault says why our own credential could not be looked at. It holds nothing
// that the provider said.
type selfFault struct{ why, do string }

func (f *selfFault) Error() string { return f.why + ": " + f.do }

// newSelfCheck gives the check of a provider; false where it has none. A provider
// brings its own by implementing activities.SelfChecker; the one of AWS is here,
// because it needs clients of services that the provider itself does not call.
func newSelfCheck(code string, opened any, a activities.Account, client *http.Client) (selfCheck, bool) {
	if self, ok := opened.(activities.SelfChecker); ok {
		return self, true
	}
	if code == awsiam.Code {
		return newAWSSelf(a, client), true
	}
	return nil, false
}

// Check tells which of our own permissions are there, per account and verb. It
// makes harmless reads only: of our own credential, and of objects that do not
// exist, which AWS refuses before it looks for them when we may not. Rights to
// change something are told from the provider's own simulation where we may ask
// for it, else they are unknown. Errors: an account that is not configured; all
// that is wrong with one is in its result.
func Check(ctx context.Context, o cli.CheckOptions, _ cli.IOStreams) (cli.CheckResult, error) {
	res := cli.CheckResult{Schema: cli.SchemaCheck, Accounts: []cli.AccountCheck{}}
	cfg, err := LoadConfig(o.Common, nil)
	if err != nil {
		return res, err
	}
	registry, err := all.Default()
	if err != nil {
		return res, err
	}
	if o.Account != "" {
		if _, err := cfg.Account(o.Provider, o.Account); err != nil {
			return res, cli.Usage("`rekey provider list` shows what is configured", "%v", err)
		}
	}
	for _, code := range slices.Sorted(maps.Keys(cfg.Providers)) {
		if o.Provider != "" && o.Provider != code {
			continue
		}
		p, ok := registry.Lookup(code)
		if !ok { // the configuration takes only codes of this build
			continue
		}
		for _, name := range cfg.Accounts(code) {
			if o.Account == "" || o.Account == name {
				res.Accounts = append(res.Accounts, checkAccount(ctx, cfg, p, name))
			}
		}
	}
	return res, ctx.Err()
}

func checkAccount(ctx context.Context, cfg *config.Config, p activities.Provider, name string) cli.AccountCheck {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	out := cli.AccountCheck{Provider: p.Descriptor.Code, Account: name, Verbs: []cli.VerbCheck{}, Problems: []cli.CheckFault{}}
	needs := needed(p.Descriptor)
	may := map[string]string{}
	self, err := openSelf(cfg, p, name)
	if err == nil {
		out.Identity, err = self.Identity(ctx)
	}
	if err != nil {
		out.Problems = append(out.Problems, problem(err))
	} else {
		var permissions []string
		for _, n := range needs {
			permissions = append(permissions, n.permissions...)
		}
		slices.Sort(permissions)
		may = self.May(ctx, slices.Compact(permissions))
	}
	for _, n := range needs {
		out.Verbs = append(out.Verbs, n.judge(may, err == nil))
	}
	return out
}

func problem(err error) cli.CheckFault {
	if f, ok := err.(*selfFault); ok { //nolint:errorlint // made here, never wrapped
		return cli.CheckFault{Message: f.why, Do: f.do}
	}
	var f *activities.Fault
	if errors.As(err, &f) {
		do := "mend providers in rekey.yaml, then check again"
		switch f.Class {
		case activities.ClassDenied:
			do = "mend our credential or its rights; `rekey provider show` has the policies"
		case activities.ClassTransient, activities.ClassThrottled, activities.ClassUnclear:
			do = "check base_url, ca_file and the network, then check again"
		}
		return cli.CheckFault{Message: f.Detail, Do: do}
	}
	return cli.CheckFault{Message: err.Error(), Do: "mend providers in rekey.yaml, then check again"}
}

// openSelf opens an account as an incident would, and our look at ourselves.
func openSelf(cfg *config.Config, p activities.Provider, name string) (selfCheck, error) {
	a, err := cfg.Account(p.Descriptor.Code, name)
	if err != nil {
		return nil, err
	}
	opened, err := p.Open(a, activities.Deps{HTTP: httpx.ForAccount, Agent: "rekey/1"})
	if err != nil {
		return nil, err
	}
	client, err := httpx.ForAccount(a)
	if err != nil {
		return nil, err
	}
	self, ok := newSelfCheck(p.Descriptor.Code, opened, a, client)
	if !ok {
		return nil, &selfFault{fmt.Sprintf("provider %s cannot tell about our own credential", p.Descriptor.Code), "compare its rights with `rekey provider show " + p.Descriptor.Code + "`"}
	}
	return self, nil
}

// A need is what one verb needs over all kinds of a provider.
type need struct {
	verb        activities.Verb
	permissions []string
}

// needed are the verbs that a provider does by API, in their order.
func needed(d activities.Descriptor) []need {
	var out []need
	for _, v := range activities.Verbs() {
		n, by := need{verb: v}, false
		for _, k := range d.Kinds {
			if info, ok := k.Verbs[v]; ok && info.Support == activities.ByAPI {
				by = true
				n.permissions = append(n.permissions, info.Permissions...)
			}
		}
		if by {
			slices.Sort(n.permissions)
			n.permissions = slices.Compact(n.permissions)
			out = append(out, n)
		}
	}
	return out
}

// judge is allowed only when every permission is, and denied when one is.
func (n need) judge(may map[string]string, reached bool) cli.VerbCheck {
	v := cli.VerbCheck{Verb: string(n.verb), State: allowed}
	if !reached {
		v.State = unknown
		return v
	}
	for _, p := range n.permissions {
		switch may[p] {
		case denied:
			v.Missing = append(v.Missing, p)
		case allowed:
		default:
			v.State = unknown
		}
	}
	if len(v.Missing) > 0 {
		v.State = denied
	}
	return v
}
