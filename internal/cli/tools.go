package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/daemon"
	"github.com/sallyport-ci/sallyport/internal/yard/tools"
)

type toolsCmd struct {
	List   toolsListCmd   `cmd:"" default:"withargs" help:"List the toolchains of a tool cache."`
	Add    toolsAddCmd    `cmd:"" help:"Add a toolchain, pinned by its digest, for setup-go, setup-node, setup-python and others."`
	Remove toolsRemoveCmd `cmd:"" help:"Remove a toolchain."`
}

// toolCache says which tool cache is meant: that of an installation, or the user's own.
type toolCache struct {
	Data      string `help:"Data directory of an installation on this host; default: the user's own tool cache, which sallyport run has." placeholder:"DIR"`
	ToolCache string `name:"tool-cache" help:"Another tool cache." env:"SALLYPORT_TOOL_CACHE" placeholder:"DIR"`
}

func (c toolCache) open() (*tools.Cache, error) { return daemon.ToolCache(c.Data, c.ToolCache) }

type toolsListCmd struct {
	toolCache
	output
	Check bool `help:"Compare the files of each with its digest."`
}

func (c toolsListCmd) Run(e *env) error {
	cache, err := c.open()
	if err != nil {
		return err
	}
	list, err := cache.List()
	if err != nil {
		return err
	}
	if c.Check {
		for _, t := range list {
			if err := cache.Verify(e.ctx, t); err != nil {
				return err
			}
		}
	}
	return c.print(e, orEmpty(list), func(w io.Writer) {
		table(w, "NAME\tVERSION\tARCH\tSIZE\tADDED\tARCHIVE\tFILES", func(line func(...any)) {
			for _, t := range list {
				line(t.Name, t.Version, t.Arch, size(t.Bytes), ago(t.AddedAt), orDash(t.Archive.Hex()), t.Tree)
			}
		})
	})
}

type toolsAddCmd struct {
	toolCache
	output
	Name    string `arg:"" help:"go, node, python, or the name under which an action looks for it."`
	Version string `arg:"" help:"Its version, as 1.26.0."`
	Source  string `arg:"" name:"file" help:"The archive as its publisher packs it (.tar.gz, .tar.zst, .tar, .zip), or a directory."`
	SHA256  string `name:"sha256" help:"SHA-256 that the publisher names for the archive; of a directory the digest that tools list shows." placeholder:"DIGEST"`
	Arch    string `help:"Architecture, as x64 or arm64; default: that of this host." placeholder:"ARCH"`
}

func (c toolsAddCmd) Run(e *env) error {
	cache, err := c.open()
	if err != nil {
		return err
	}
	var want sallyport.Digest
	if c.SHA256 != "" {
		if want, err = sallyport.ParseDigest("sha256:" + strings.ToLower(strings.TrimPrefix(c.SHA256, "sha256:"))); err != nil {
			return sallyport.Errorf(sallyport.CodeInvalid, "--sha256 is not 64 hexadecimal digits")
		}
	}
	t, err := cache.Add(e.ctx, c.Name, c.Version, c.Arch, c.Source, want)
	if err != nil {
		return err
	}
	return c.print(e, t, func(w io.Writer) {
		fmt.Fprintf(w, "added %s %s for %s: %d files, %s, digest %s\n", t.Name, t.Version, t.Arch, t.Files, size(t.Bytes), t.Tree)
	})
}

type toolsRemoveCmd struct {
	toolCache
	Name    string `arg:"" help:"Its name."`
	Version string `arg:"" help:"Its version."`
	Arch    string `help:"Architecture; default: that of this host." placeholder:"ARCH"`
}

func (c toolsRemoveCmd) Run(e *env) error {
	cache, err := c.open()
	if err != nil {
		return err
	}
	arch := c.Arch
	if arch == "" {
		arch = tools.Arch()
	}
	return cache.Remove(c.Name, c.Version, arch)
}
