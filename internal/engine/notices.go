package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"rekey/internal/canon"
	"rekey/internal/estate"
	"rekey/internal/notice"
	"rekey/internal/view"
	"rekey/playbooks"
	"rekey/workflows"
)

// Render makes the messages of an order and says by which contacts each can go. A
// message is kept in the blob store under its hash; addresses are not in the result.
func (e *Engine) Render(ctx context.Context, in workflows.RenderInput) (workflows.RenderResult, error) {
	dir, err := e.Contacts()
	if err != nil {
		return workflows.RenderResult{}, err // repeated until the files are mended
	}
	var out workflows.RenderResult
	for i, r := range in.Order.Recipients {
		m, err := e.render(ctx, in, i)
		if err != nil {
			return out, err
		}
		reach(dir, r, &m)
		out.Messages = append(out.Messages, m)
	}
	return out, nil
}

// reach finds the contacts of a recipient that the playbook and the configuration
// allow, in their order.
func reach(dir *estate.Directory, r workflows.NoticeRecipient, m *workflows.Rendered) {
	who, ok := dir.Find(r.Audience, r.Ref)
	if !ok {
		m.Why = said(m.Why, "no contact of "+r.Audience+" "+r.Ref+" is known: add it to estate.yaml (owners) or customers.json")
		return
	}
	m.ContractHours = who.ContractHours
	for _, c := range who.Contacts {
		if slices.Contains(r.Channels, c.Channel) {
			m.Contacts = append(m.Contacts, workflows.Contact{Order: c.Order, Channel: c.Channel})
		}
	}
	if len(m.Contacts) == 0 {
		m.Why = said(m.Why, r.Audience+" "+r.Ref+" has no contact on a channel that the playbook names and rekey.yaml configures")
	}
	if m.Text == "" {
		m.Contacts = nil
	}
}

func said(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// render makes one message. What the content gate refuses comes back as why, and a
// person writes it.
func (e *Engine) render(ctx context.Context, in workflows.RenderInput, i int) (workflows.Rendered, error) {
	r := in.Order.Recipients[i]
	f := notice.Facts{
		Incident: in.Incident, Number: in.IDs[i], Version: r.Version, Class: in.Order.Class, Cause: in.Order.Title,
		Since: in.Order.Since, Contact: e.Config.Channels.Email.From,
	}
	if in.Order.Exposure != "" {
		f.Cause += " (exposure: " + in.Order.Exposure + ")"
	}
	replaced, promoted, cut := false, false, 0
	for _, it := range r.Items {
		k := notice.Key{ID: it.Key.ID, Provider: it.Key.Provider, Account: it.Key.Account, Kind: it.Key.Kind, New: it.NewKeyID, Created: it.Created, State: "still works"}
		if k.ID == "" {
			k.ID = it.Key.Short()
		}
		if !it.Cut.IsZero() {
			k.State = "refused since " + canon.Time(it.Cut)
			cut++
			if it.Cut.After(f.Until) {
				f.Until = it.Cut
			}
		}
		if it.NewKeyID != "" {
			replaced, k.Stores = true, it.Stores
		}
		promoted = promoted || it.Promoted
		f.Keys = append(f.Keys, k)
	}
	if cut < len(r.Items) {
		f.Until = in.Order.Cutoff.UTC()
		if f.Class == notice.Cut {
			f.Until = in.Now // some are cut, the others are about to be
		}
	}
	if f.Class == notice.Warn {
		f.By = in.Order.Cutoff
		f.Did = append(f.Did, "prepared the cut of the leaked key; it happens at the time below at the latest")
		if replaced {
			f.Did = append(f.Did, "made replacements and put them where they are listed above")
		}
		f.Do = append(f.Do, doSwitch(replaced), "stop every use of the old key: it is refused after that time")
	} else {
		f.Did = append(f.Did, "cut the leaked key: it is refused, or about to be, and its sessions end")
		if promoted {
			f.Did = append(f.Did, "did so before the time of an earlier notice, because abuse was seen")
		}
		if replaced {
			f.Did = append(f.Did, "made replacements and put them where they are listed above")
		}
		f.Do = append(f.Do, doSwitch(replaced), "restart what still holds the old key")
	}
	f.Evidence = fmt.Sprintf("uses of these key ids in your logs since %s that are not yours; send them to the contact below", canon.Time(f.Since))
	m, err := notice.Render(r.Template, f)
	var short *notice.IncompleteError
	if errors.As(err, &short) {
		return workflows.Rendered{Why: err.Error()}, nil
	}
	if err != nil {
		//nolint:nilerr // a notice that cannot be written is a person's to write, not a call to repeat
		return workflows.Rendered{Why: "the notice cannot be written: " + err.Error()}, nil
	}
	b, err := m.Bytes()
	if err != nil {
		return workflows.Rendered{}, fmt.Errorf("notice: %w", err)
	}
	hash, err := e.Blobs.Put(ctx, b)
	if err != nil {
		return workflows.Rendered{}, fmt.Errorf("keep the notice: %w", err)
	}
	return workflows.Rendered{Text: hash}, nil
}

func doSwitch(replaced bool) string {
	if replaced {
		return "switch to the replacement"
	}
	return "ask the contact below for a replacement, if you still need one"
}

// NoticeText reads a rendered message for a person who sends it by hand.
func (e *Engine) NoticeText(ctx context.Context, in workflows.NoticeTextInput) (workflows.NoticeTextResult, error) {
	m, err := e.message(ctx, in.Text)
	if err != nil {
		return workflows.NoticeTextResult{}, err
	}
	return workflows.NoticeTextResult{Text: m.Subject + "\n\n" + m.Text}, nil
}

func (e *Engine) message(ctx context.Context, hash string) (notice.Message, error) {
	b, err := e.Blobs.Get(ctx, hash)
	if err != nil {
		return notice.Message{}, fmt.Errorf("rendered notice: %w", err)
	}
	var m notice.Message
	if err := json.Unmarshal(b, &m); err != nil {
		return notice.Message{}, fmt.Errorf("rendered notice %s is of another build: %w", hash, err)
	}
	return m, nil
}

// sentNotices are the rendered messages of a view for the bundle, by name.
func (e *Engine) sentNotices(ctx context.Context, list []view.Notice) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, n := range list {
		if n.Text == "" {
			continue
		}
		b, err := e.Blobs.Get(ctx, n.Text)
		if err != nil {
			return nil, fmt.Errorf("notice %s for the bundle: %w", n.ID, err)
		}
		out[n.ID+".json"] = b
	}
	return out, nil
}

// contacts is used where no directory was given: nobody can be told.
func contacts() (*estate.Directory, error) { return estate.LoadDirectory(nil, nil) }

// customersDigest names the customers files of a plan; "" where nobody is named.
func (e *Engine) customersDigest(in workflows.PlanInput) (string, error) {
	if !slices.ContainsFunc(in.Playbook.Notices, func(n playbooks.Notice) bool { return n.Audience == playbooks.AudienceCustomer }) {
		return "", nil
	}
	dir, err := e.Contacts()
	if err != nil {
		return "", err
	}
	return dir.Digest, nil
}
