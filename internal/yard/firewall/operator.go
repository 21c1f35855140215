package firewall

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// operatorFile is an operator's file of registries. What it names of a kind takes the place of what was
// discovered of that kind; credentials stay those of the host's clients.
type operatorFile struct {
	Go    []string `yaml:"go"`
	SumDB string   `yaml:"sumdb"`
	NPM   []struct {
		URL    string   `yaml:"url"`
		Scopes []string `yaml:"scopes"`
	} `yaml:"npm"`
	PyPI   []string `yaml:"pypi"`
	Cargo  []string `yaml:"cargo"`
	Debian []struct {
		URL    string   `yaml:"url"`
		Suites []string `yaml:"suites"`
	} `yaml:"debian"`
	Redirects []string `yaml:"redirects"`
}

// DiscoverWith is Discover with an operator's file over it.
func DiscoverWith(h Host, file []byte) (Upstreams, []string, error) {
	d := &discovery{h: h}
	d.netrc()
	d.goProxies()
	d.npm()
	d.pip()
	d.cargo()
	d.apt()
	if len(bytes.TrimSpace(file)) > 0 {
		if err := d.operator(file); err != nil {
			return Upstreams{}, nil, err
		}
	}
	d.credentials()
	return d.out, d.notes, nil
}

func (d *discovery) operator(file []byte) error {
	var o operatorFile
	dec := yaml.NewDecoder(bytes.NewReader(file))
	dec.KnownFields(true)
	if err := dec.Decode(&o); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("registries: %w", err)
	}
	take := func(kind Kind, addresses []string, more func(i int, u *Upstream)) error {
		if addresses == nil {
			return nil
		}
		d.drop(kind)
		for i, a := range addresses {
			u, err := NewUpstream(kind, a)
			if err != nil {
				return fmt.Errorf("registries: %s: %w", kind, err)
			}
			if more != nil {
				more(i, &u)
			}
			d.out.List = append(d.out.List, u)
		}
		return nil
	}
	var npm, debian []string
	for _, n := range o.NPM {
		npm = append(npm, n.URL)
	}
	for _, a := range o.Debian {
		debian = append(debian, a.URL)
	}
	if err := errors.Join(
		take(KindGo, o.Go, nil), take(KindPyPI, o.PyPI, nil), take(KindCargo, o.Cargo, nil),
		take(KindNPM, npm, func(i int, u *Upstream) { u.Scopes = o.NPM[i].Scopes }),
		take(KindDebian, debian, func(i int, u *Upstream) { u.Suites = o.Debian[i].Suites }),
	); err != nil {
		return err
	}
	if o.Go != nil {
		var list []string
		for _, u := range d.out.List {
			if u.Kind == KindGo {
				list = append(list, u.Base.String())
			}
		}
		d.out.GoProxy = strings.Join(list, ",")
	}
	if o.SumDB != "" {
		d.out.GoSumDB, d.out.Sum = o.SumDB, SumDB{}
		if name, _, ok := strings.Cut(o.SumDB, "+"); ok {
			d.out.Sum = SumDB{Name: name, Key: o.SumDB}
		}
	}
	for _, h := range o.Redirects {
		d.out.Redirects = append(d.out.Redirects, hostname(h))
	}
	return nil
}

// drop forgets what was discovered of a kind.
func (d *discovery) drop(kind Kind) {
	var keep []Upstream
	for _, u := range d.out.List {
		if u.Kind != kind {
			keep = append(keep, u)
		}
	}
	d.out.List = keep
}

// Hosts are those of the registries, by whose names the host reaches them.
func (u Upstreams) Hosts() []string {
	var out []string
	for _, one := range u.List {
		out = append(out, hostname(one.Base.Host))
		for _, f := range one.Files {
			out = append(out, hostname(f))
		}
	}
	return append(out, u.Redirects...)
}
