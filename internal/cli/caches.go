package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/sallyport-ci/sallyport"
)

type cachesCmd struct {
	List   cachesListCmd   `cmd:"" default:"withargs" help:"List the caches of a project."`
	Delete cachesDeleteCmd `cmd:"" help:"Delete caches of a project."`
	Uses   cachesUsesCmd   `cmd:"" help:"List what the jobs of a run did with caches."`
}

type cachesListCmd struct {
	remote
	output
	Project string `arg:"" help:"The project."`
}

func (c cachesListCmd) Run(e *env) error {
	s, p, err := c.project(e, c.Project)
	if err != nil {
		return err
	}
	list, err := allCaches(e.ctx, s, p.ID)
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) { cacheTable(w, list) })
}

func cacheTable(w io.Writer, list []sallyport.CacheEntry) {
	table(w, "KEY\tREF\tTIER\tSIZE\tSAVED\tUSED\tDIGEST\tID", func(line func(...any)) {
		for _, c := range list {
			line(c.Key, c.Ref, c.Tier, size(c.Size), ago(c.CreatedAt), ago(c.UsedAt), c.Digest.Short(), c.ID)
		}
	})
}

// allCaches returns the caches of a project, newest first.
func allCaches(ctx context.Context, s sallyport.Services, p sallyport.ProjectID) ([]sallyport.CacheEntry, error) {
	var out []sallyport.CacheEntry
	for page := (sallyport.Page{Limit: 200}); ; {
		list, err := s.Caches.Caches(ctx, p, page)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
		if len(list) < page.Limit {
			return out, nil
		}
		page.Before = string(list[len(list)-1].ID)
	}
}

type cachesDeleteCmd struct {
	remote
	output
	Project string `arg:"" help:"The project."`
	Key     string `arg:"" optional:"" help:"Key or id of what to delete; a key may stand in several scopes."`
	Ref     string `help:"Only those that runs of this ref saved." placeholder:"REF"`
	All     bool   `help:"Delete all caches of the project, or of the ref."`
}

func (c cachesDeleteCmd) Run(e *env) error {
	if (c.Key == "") != c.All {
		return sallyport.Errorf(sallyport.CodeInvalid, "say what to delete").WithHint("give a key or an id, or --all")
	}
	s, p, err := c.project(e, c.Project)
	if err != nil {
		return err
	}
	list, err := allCaches(e.ctx, s, p.ID)
	if err != nil {
		return err
	}
	var gone []sallyport.CacheEntry
	for _, entry := range list {
		if c.Ref != "" && entry.Ref != c.Ref || !c.All && entry.Key != c.Key && string(entry.ID) != c.Key {
			continue
		}
		if entry, err = s.Caches.DeleteCache(e.ctx, entry.ID); sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			continue // it was removed meanwhile
		} else if err != nil {
			return err
		}
		gone = append(gone, entry)
	}
	if len(gone) == 0 && !c.All {
		return sallyport.Errorf(sallyport.CodeNotFound, "project %s has no cache %.80q", p.Name, c.Key).WithHint("list them with: sallyport caches list %s", p.Name)
	}
	return c.print(e, orEmpty(gone), func(w io.Writer) {
		for _, entry := range gone {
			fmt.Fprintf(w, "deleted %s of %s, tier %s\n", plain(entry.Key), plain(entry.Ref), entry.Tier)
		}
	})
}

type cachesUsesCmd struct {
	remote
	output
	ID      string `arg:"" name:"run" help:"Id or number of the run."`
	Project string `help:"The project, when a number is given." placeholder:"NAME"`
}

func (c cachesUsesCmd) Run(e *env) error {
	s, err := c.services()
	if err != nil {
		return err
	}
	id, err := findRun(e.ctx, s, c.Project, c.ID)
	if err != nil {
		return err
	}
	list, err := s.Caches.CacheUses(e.ctx, id)
	if err != nil {
		return err
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "WHAT\tKEY\tREF\tTIER\tDIGEST\tID", func(line func(...any)) {
			for _, u := range list {
				line(u.Outcome, u.Entry.Key, u.Entry.Ref, u.Entry.Tier, u.Entry.Digest.Short(), u.Entry.ID)
			}
		})
	})
}
