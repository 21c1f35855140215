package firewall

import (
	"path"
	"regexp"
	"strings"
)

// sumKey finds the keys of checksum databases that the go command carries.
var sumKey = regexp.MustCompile(`"([a-z0-9.-]+)":\s*"([a-z0-9.-]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+)"`)

// goProxies reads the go command's settings: the environment, go/env of the user, go.env of the installation.
func (d *discovery) goProxies() {
	root := d.h.Env("GOROOT")
	if root == "" {
		for _, bin := range d.programs("go") {
			root = path.Dir(path.Dir(bin))
			break
		}
	}
	var files []string
	if file := d.h.Env("GOENV"); file == "" {
		files = append(files, d.configHome("go/env"))
	} else if file != "off" {
		files = append(files, file)
	}
	if root != "" {
		files = append(files, path.Join(root, "go.env"))
	}
	get := func(key string) string {
		if v := d.h.Env(key); v != "" {
			return v
		}
		for _, file := range files {
			text, _ := d.read(file)
			for _, kv := range keyValues(text, "#") {
				if kv[0] == key && kv[1] != "" {
					return kv[1]
				}
			}
		}
		return ""
	}
	proxies := get("GOPROXY")
	shown := proxies
	for _, one := range strings.FieldsFunc(proxies, func(r rune) bool { return r == ',' || r == '|' }) {
		one = strings.TrimSpace(one)
		if one == "direct" || one == "off" || one == "" {
			continue
		}
		if strings.HasPrefix(one, "file:") {
			d.note("GOPROXY: a directory of the host is no registry for jobs; it is passed over")
			shown = strings.ReplaceAll(shown, one, "direct")
			continue
		}
		if u := d.add(KindGo, one, "GOPROXY"); u != nil {
			shown = strings.ReplaceAll(shown, one, u.Base.String())
		} else {
			shown = strings.ReplaceAll(shown, one, "direct")
		}
	}
	d.out.GoProxy, d.out.GoPrivate = shown, get("GOPRIVATE")
	if d.out.GoNoSumDB = get("GONOSUMDB"); d.out.GoNoSumDB == "" {
		d.out.GoNoSumDB = d.out.GoPrivate
	}
	sum := get("GOSUMDB")
	d.out.GoSumDB = sum
	if sum == "" || sum == "off" {
		return
	}
	key, _, _ := strings.Cut(sum, " ") // an address may follow
	name, _, ok := strings.Cut(key, "+")
	d.out.Sum.Name = name
	if ok {
		d.out.Sum.Key = key
		return
	}
	text, _ := d.read(path.Join(root, "src/cmd/go/internal/modfetch/key.go"))
	for _, m := range sumKey.FindAllStringSubmatch(text, 100) {
		if m[1] == name {
			d.out.Sum.Key = m[2]
		}
	}
	if d.out.Sum.Key == "" {
		d.note("GOSUMDB: the key of %s is not known; the jobs' own go commands compare checksums with it, the firewall does not", name)
	}
}
