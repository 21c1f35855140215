package firewall

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
)

// strength orders the checksums that registries state, the strongest first.
var strength = []string{"h1", "sha512", "sha384", "sha256", "sha1"}

// spelled returns a checksum as the cache spells it: hex, or for h1 as Go writes it. It takes
// ALGORITHM-BASE64 (npm), ALGORITHM:HEX (pip, cargo) and h1:BASE64 (Go); "" for anything else.
func spelled(sum string) string {
	if h1, ok := strings.CutPrefix(sum, "h1:"); ok {
		return "h1:" + h1
	}
	if _, digits, ok := strings.Cut(sum, ":"); ok {
		return strings.ToLower(digits)
	}
	if _, code, ok := strings.Cut(sum, "-"); ok {
		code, _, _ = strings.Cut(code, "?") // options of subresource integrity
		if raw, err := base64.StdEncoding.DecodeString(code); err == nil {
			return hex.EncodeToString(raw)
		}
	}
	return ""
}

// strongest returns the checksums of the strongest algorithm in an integrity value of npm, of
// those that are computed here.
func strongest(integrity string) (algorithm string, sums []string) {
	best := len(strength)
	for _, one := range strings.Fields(integrity) {
		a, _, _ := strings.Cut(one, "-")
		i := slices.Index(strength, a)
		if i < 0 || a == "sha384" || a == "h1" || spelled(one) == "" || i > best {
			continue
		}
		if i < best {
			best, algorithm, sums = i, a, nil
		}
		sums = append(sums, spelled(one))
	}
	return algorithm, sums
}
