package firewall

import (
	"path"
	"strings"
)

// cargo reads the registries of cargo's configuration that have a sparse index. Cargo carries its
// default inside its program, where it is not read: a host that wants it names it, as a registry or as the
// replacement of crates-io.
func (d *discovery) cargo() {
	home := d.h.Env("CARGO_HOME")
	if home == "" {
		home = d.home(".cargo")
	}
	for _, name := range []string{"config.toml", "config"} {
		text, ok := d.read(path.Join(home, name))
		if !ok {
			continue
		}
		for line := range strings.Lines(text) { // of TOML, the strings that are sparse indexes are enough
			line, _, _ = strings.Cut(line, "#")
			key, value, ok := strings.Cut(line, "=")
			if key = strings.TrimSpace(key); !ok || key != "index" && key != "registry" && !strings.HasSuffix(key, ".index") && !strings.HasSuffix(key, ".registry") {
				continue
			}
			if index, ok := strings.CutPrefix(strings.Trim(strings.TrimSpace(value), `"'`), "sparse+"); ok {
				d.add(KindCargo, index, "cargo's "+name)
			}
		}
		break
	}
	for _, name := range []string{"CARGO_REGISTRIES_CRATES_IO_INDEX", "CARGO_REGISTRY_INDEX"} {
		if index, ok := strings.CutPrefix(d.h.Env(name), "sparse+"); ok {
			d.add(KindCargo, index, name)
		}
	}
}
