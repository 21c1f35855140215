package environment

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sallyport-ci/sallyport"
)

// maxAudience bounds an audience's name; those of cloud providers are below 200 bytes.
const maxAudience = 512

// audiences reads an exact list, nil where there is none. An item is a name, or
// a map of name and algorithm.
func audiences(n *yaml.Node) (sallyport.Audiences, error) {
	if n.Kind == 0 {
		return nil, nil
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) > maxAudiences {
		return nil, &place{n, fmt.Sprintf("audiences: a list of at most %d names is needed; [] for none", maxAudiences)}
	}
	list := sallyport.Audiences{}
	for _, item := range n.Content {
		var a struct {
			Name      string `yaml:"name"`
			Algorithm string `yaml:"algorithm"`
		}
		switch item.Kind {
		case yaml.ScalarNode:
			a.Name = item.Value
		default:
			if err := decode(item, &a); err != nil {
				return nil, err
			}
		}
		if why := checkAudience(a.Name); why != "" {
			return nil, &place{item, "audiences: " + why}
		}
		if a.Algorithm != "" && a.Algorithm != sallyport.RS256 && a.Algorithm != sallyport.ES256 {
			return nil, &place{item, fmt.Sprintf("audiences: the algorithm of %s is RS256 or ES256", a.Name)}
		}
		if _, twice := list.Find(a.Name); twice {
			return nil, &place{item, fmt.Sprintf("audiences: %s stands twice", a.Name)}
		}
		list = append(list, sallyport.Audience{Name: a.Name, Algorithm: a.Algorithm})
	}
	return list, nil
}

// checkAudience says what is wrong with a name: one that seems to be a pattern is
// refused, because the list is exact and its writer would believe otherwise.
func checkAudience(name string) string {
	switch {
	case name == "" || len(name) > maxAudience:
		return fmt.Sprintf("a name of 1 to %d bytes is needed", maxAudience)
	case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Sprintf("%.80q is not plain ASCII without spaces", name)
	case strings.ContainsAny(name, "*?["):
		return fmt.Sprintf("%.80q looks like a pattern; audiences are listed one by one", name)
	}
	return ""
}
