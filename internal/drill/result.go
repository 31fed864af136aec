package drill

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"

	"rekey/internal/audit"
	"rekey/internal/event"
	"rekey/internal/fsx"
	"rekey/internal/view"
)

// Played is what rekey says of an incident that was played.
type Played struct {
	ID string
	// Final is the view of it with every item.
	Final view.Incident
	// Bundle is the last one sealed, and where it lies; Report the page in it.
	Bundle             []byte
	BundlePath, Report string
	Events             []event.Event
}

// result collects what rekey has to say.
func (d *driver) result(ctx context.Context) (*Played, error) {
	p := &Played{ID: d.incident}
	var err error
	if p.Final, err = d.api.show(ctx, d.incident); err != nil {
		return nil, err
	}
	if p.Final.Truncated {
		if p.Final.Items, err = d.items(ctx); err != nil {
			return nil, err
		}
	}
	if err := d.api.do(ctx, http.MethodGet, "/api/v1/incidents/"+d.incident+"/bundle", nil, &p.Bundle); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	p.BundlePath = filepath.Join(d.w.dir, d.incident+".zip")
	if err := fsx.WriteAtomic(p.BundlePath, p.Bundle); err != nil {
		return nil, err
	}
	opened, err := audit.Open(bytes.NewReader(p.Bundle), int64(len(p.Bundle)))
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if p.Events, _, err = opened.Events(); err != nil {
		return nil, err
	}
	page, err := opened.File("report.html")
	if err != nil {
		return nil, err
	}
	p.Report = filepath.Join(d.w.dir, d.incident+".html")
	return p, fsx.WriteAtomic(p.Report, page)
}

// items reads all items, page by page: the view cuts them.
func (d *driver) items(ctx context.Context) ([]view.Item, error) {
	var out []view.Item
	for after := ""; ; {
		var page view.Items
		if err := d.api.do(ctx, http.MethodGet, "/api/v1/incidents/"+d.incident+"/items?after="+url.QueryEscape(after), nil, &page); err != nil {
			return nil, fmt.Errorf("items: %w", err)
		}
		out = append(out, page.Items...)
		if after = page.Next; after == "" {
			return out, nil
		}
	}
}
