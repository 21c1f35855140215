package firewall

import (
	"path"
	"regexp"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// npmToken is a credential of npmrc for the addresses below a place.
type npmToken struct {
	place         string // HOST[:PORT]/PATH/
	authorization sallyport.Secret
}

var (
	npmDefault  = regexp.MustCompile(`(?:Definition|define)\('registry', \{\s*default: '(https?://[^']+)'`)
	npmVariable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\??\}`)
)

// npm reads npm's settings: the environment, the user's and the installation's npmrc, the default of the
// installed npm. A project's own npmrc is none of the host's.
func (d *discovery) npm() {
	var homes []string // of installed npms
	for _, bin := range d.programs("npm") {
		homes = append(homes, path.Dir(path.Dir(bin)))
	}
	env := func(name string) string {
		if v := d.h.Env("npm_config_" + name); v != "" {
			return v
		}
		return d.h.Env("NPM_CONFIG_" + strings.ToUpper(name))
	}
	var files []string
	if f := env("userconfig"); f != "" {
		files = append(files, f)
	} else {
		files = append(files, d.home(".npmrc"))
	}
	if f := env("globalconfig"); f != "" {
		files = append(files, f)
	} else {
		for _, dir := range homes {
			// the prefix is three levels up: PREFIX/lib/node_modules/npm
			files = append(files, path.Join(dir, "../../../etc/npmrc"))
		}
		files = append(files, "/etc/npmrc")
	}
	for _, dir := range homes {
		files = append(files, path.Join(dir, "npmrc"))
	}
	registry := env("registry")
	scopes := map[string]string{}
	var order []string
	for _, file := range files {
		text, _ := d.read(file)
		for _, kv := range keyValues(text, "#;") {
			value := npmVariable.ReplaceAllStringFunc(kv[1], func(v string) string { return d.h.Env(npmVariable.FindStringSubmatch(v)[1]) })
			switch key := kv[0]; {
			case key == "registry" && registry == "":
				registry = value
			case strings.HasPrefix(key, "@") && strings.HasSuffix(key, ":registry"):
				scope := strings.TrimSuffix(key, ":registry")
				if _, ok := scopes[scope]; !ok {
					scopes[scope], order = value, append(order, scope)
				}
			case strings.HasPrefix(key, "//"):
				d.npmCredential(key, value)
			}
		}
	}
	for _, dir := range homes {
		if registry != "" {
			break
		}
		text, _ := d.read(path.Join(dir, "node_modules/@npmcli/config/lib/definitions/definitions.js"))
		if m := npmDefault.FindStringSubmatch(text); m != nil {
			registry = m[1]
		}
	}
	if registry != "" {
		d.add(KindNPM, registry, "npm's registry")
	} else if len(homes) > 0 {
		d.note("npm: its default registry is not known; name one in npmrc")
	}
	for _, scope := range order {
		u, err := NewUpstream(KindNPM, scopes[scope])
		if err != nil {
			d.note("npmrc: the registry of %s: %v; it is passed over", scope, err)
			continue
		}
		if have := d.npmAt(u.Base.String()); have != nil {
			if len(have.Scopes) > 0 {
				have.Scopes = append(have.Scopes, scope)
			}
			continue // the default registry has all scopes
		}
		u.Scopes = []string{scope}
		d.out.List = append(d.out.List, u)
	}
}

func (d *discovery) npmAt(base string) *Upstream {
	for i := range d.out.List {
		if u := &d.out.List[i]; u.Kind == KindNPM && u.Base.String() == base {
			return u
		}
	}
	return nil
}

// npmCredential takes //PLACE:_authToken, :_auth, or :username with :_password.
func (d *discovery) npmCredential(key, value string) {
	i := strings.LastIndexByte(key, ':')
	if i < 0 || value == "" {
		return
	}
	place, what := strings.TrimRight(strings.TrimPrefix(key[:i], "//"), "/")+"/", key[i+1:]
	switch what {
	case "_authToken":
		d.tokens = append(d.tokens, npmToken{place, sallyport.NewSecret([]byte("Bearer " + value))})
	case "_auth":
		d.tokens = append(d.tokens, npmToken{place, sallyport.NewSecret([]byte("Basic " + value))})
	case "username", "_password":
		d.note("npmrc: %s of %s is an old way to log in; use _authToken or _auth", what, place)
	}
}
