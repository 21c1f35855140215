package daemon

import (
	"net"
	"net/url"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// checkIssuer refuses an issuer's URL that nobody could check tokens by: it is an https
// URL without query and fragment (OpenID Connect Discovery 1.0, section 3); http is
// for loopback alone.
func checkIssuer(issuer string) error {
	if issuer == "" {
		return nil
	}
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#") || len(issuer) > 255 ||
		u.Scheme != "https" && !(u.Scheme == "http" && loopbackHost(u.Hostname())) {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.100q is not the URL of an issuer", issuer).
			WithHint("give --issuer an https URL of at most 255 bytes without user, query and fragment, as https://ci.example.com")
	}
	return nil
}

func loopbackHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
