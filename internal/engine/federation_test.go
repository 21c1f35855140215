package engine

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	sts "github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/sallyport-ci/sallyport"
)

// thirdParty returns a server program of others: that which the variable names, or one of
// the names on PATH. None is fetched or built here: each costs minutes.
func thirdParty(t *testing.T, variable string, names ...string) string {
	t.Helper()
	if file := os.Getenv(variable); file != "" {
		return file
	}
	for _, name := range names {
		if file, err := exec.LookPath(name); err == nil {
			return file
		}
	}
	t.Skipf("NOT TESTED: federation with %s. Put the program on PATH, or name it in %s", strings.Join(names, " or "), variable)
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	return l.Addr().String()
}

// startServer starts a program that ends with the test, and returns its output line by line.
func startServer(t *testing.T, env []string, file string, args ...string) <-chan string {
	t.Helper()
	cmd := exec.Command(file, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"HOME=" + cmd.Dir, "PATH=" + os.Getenv("PATH")}, env...)
	out, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	check(t, cmd.Start())
	lines := make(chan string, 1000)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case lines <- s.Text():
			default: // nobody reads any more
			}
		}
		close(lines)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = w.Close()
	})
	return lines
}

// answers waits until a server does.
func answers(t *testing.T, url string, good int) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get(url)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == good {
			return
		}
	}
	t.Fatalf("%s does not answer %d", url, good)
}

// TestMinIOTakesIDTokens trades ID tokens for credentials of S3 at a real STS, which gives
// each subject its bucket and no other.
func TestMinIOTakesIDTokens(t *testing.T) {
	t.Parallel()
	file := thirdParty(t, "SALLYPORT_TEST_MINIO", "minio")
	f := newFederation(t)
	f.now = time.Now() // the server has a clock of its own
	addr, root, secret := freePort(t), "rootrootroot", "secretsecretsecret"
	data := t.TempDir()
	lines := startServer(t, []string{
		"MINIO_ROOT_USER=" + root, "MINIO_ROOT_PASSWORD=" + secret, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
		"MINIO_IDENTITY_OPENID_CONFIG_URL=" + f.url + sallyport.DiscoveryPath, "MINIO_IDENTITY_OPENID_CLIENT_ID=bank",
		"MINIO_IDENTITY_OPENID_CLIENT_SECRET=unused", "MINIO_IDENTITY_OPENID_ROLE_POLICY=ci-role",
	}, file, "server", "--address", addr, filepath.Join(data, "s3"))
	answers(t, "http://"+addr+"/minio/health/ready", http.StatusOK)
	var role string
	for arn := regexp.MustCompile(`arn:minio:iam:::role/\S+`); role == ""; {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatal("the server has ended")
			}
			role = arn.FindString(line)
		case <-time.After(time.Minute):
			t.Fatal("the server names no role")
		}
	}

	mine := claimsOf(t, f.mint("bank"))["sub"].(string)
	production := strings.Replace(mine, ":ref:refs/heads/main", ":environment:production", 1)
	statement := func(bucket, sub string) map[string]any {
		return map[string]any{"Effect": "Allow", "Action": []string{"s3:GetObject", "s3:PutObject"}, "Resource": "arn:aws:s3:::" + bucket + "/*",
			"Condition": map[string]any{"StringEquals": map[string]string{"jwt:sub": sub}}}
	}
	body, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{statement("main", mine), statement("production", production)}})
	check(t, err)
	req, err := http.NewRequest("PUT", "http://"+addr+"/minio/admin/v3/add-canned-policy?name=ci-role", bytes.NewReader(body))
	check(t, err)
	req.Header.Set("X-Amz-Content-Sha256", strings.TrimPrefix(string(sallyport.DigestOf(body)), "sha256:"))
	resp, err := http.DefaultClient.Do(signer.SignV4(*req, root, secret, "", "us-east-1"))
	check(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("set the policy: %s: %s", resp.Status, b)
	}
	admin, err := minio.New(addr, &minio.Options{Creds: sts.NewStaticV4(root, secret, "")})
	check(t, err)
	for _, bucket := range []string{"main", "production"} {
		check(t, admin.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}))
	}
	put := func(token, bucket string) error {
		creds, err := sts.NewSTSWebIdentity("http://"+addr, func() (*sts.WebIdentityToken, error) {
			return &sts.WebIdentityToken{Token: token, Expiry: 900}, nil
		}, func(i *sts.STSWebIdentity) { i.RoleARN = role })
		check(t, err)
		if _, err := creds.GetWithContext(nil); err != nil {
			return fmt.Errorf("exchange the token: %w", err)
		}
		c, err := minio.New(addr, &minio.Options{Creds: creds})
		check(t, err)
		_, err = c.PutObject(t.Context(), bucket, "object", strings.NewReader("content"), 7, minio.PutObjectOptions{})
		return err
	}
	check(t, put(f.mint("bank"), "main"))
	refused := func(what, token, bucket, want string) {
		t.Helper()
		if err := put(token, bucket); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want one about %q", what, err, want)
		}
	}
	refused("the bucket of an environment", f.mint("bank"), "production", "Access Denied")
	refused("another audience", f.mint("sts.amazonaws.com"), "main", "exchange the token")
	token := f.mint("bank")
	refused("an altered signature", token[:len(token)-10]+"AAAAAAAAAA", "main", "exchange the token")
	f.now = time.Now().Add(-time.Hour)
	{
		refused("expired", f.mint("bank"), "main", "exchange the token")
	}
	f.now = time.Now()
	_, err = f.s.Issuers.RotateIssuer(f.admin, sallyport.RotateIssuer{Compromised: true})
	check(t, err)
	check(t, put(f.mint("bank"), "main")) // by a key that it has not seen
}

// TestVaultTakesIDTokens logs in to a real OpenBao or Vault, which gives each subject its
// secret and no other.
func TestVaultTakesIDTokens(t *testing.T) {
	t.Parallel()
	file := thirdParty(t, "SALLYPORT_TEST_BAO", "bao", "vault")
	f := newFederation(t)
	f.now = time.Now()
	addr := freePort(t)
	startServer(t, nil, file, "server", "-dev", "-dev-root-token-id=root-test", "-dev-listen-address="+addr, "-dev-no-store-token")
	answers(t, "http://"+addr+"/v1/sys/health", http.StatusOK)
	call := func(token, method, path string, in any) (int, map[string]any) {
		t.Helper()
		b, err := json.Marshal(in)
		check(t, err)
		req, err := http.NewRequest(method, "http://"+addr+"/v1/"+path, bytes.NewReader(b))
		check(t, err)
		req.Header.Set("X-Vault-Token", token)
		resp, err := http.DefaultClient.Do(req)
		check(t, err)
		defer resp.Body.Close()
		var out map[string]any
		_ = json.NewDecoder(resp.Body).Decode(&out) // many answers are empty
		return resp.StatusCode, out
	}
	set := func(path string, in any) {
		t.Helper()
		if code, out := call("root-test", "POST", path, in); code >= 300 {
			t.Fatalf("%s: %d %v", path, code, out)
		}
	}
	mine := claimsOf(t, f.mint("bank"))
	set("sys/auth/ci", map[string]any{"type": "jwt"})
	set("auth/ci/config", map[string]any{"oidc_discovery_url": f.url, "bound_issuer": f.url})
	set("secret/data/main", map[string]any{"data": map[string]string{"value": "of main"}})
	set("secret/data/production", map[string]any{"data": map[string]string{"value": "of production"}})
	role := func(name, sub string) {
		set("sys/policies/acl/"+name, map[string]any{"policy": `path "secret/data/` + name + `" { capabilities = ["read"] }`})
		set("auth/ci/role/"+name, map[string]any{
			"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"bank"}, "bound_subject": sub,
			"bound_claims": map[string]any{"tier": "protected", "repository_id": string(f.p.ID)}, "claim_mappings": map[string]string{"run_id": "run_id"},
			"token_ttl": "120s", "token_max_ttl": "300s", "token_no_default_policy": true, "token_policies": []string{name},
		})
	}
	role("main", mine["sub"].(string))
	role("production", strings.Replace(mine["sub"].(string), ":ref:refs/heads/main", ":environment:production", 1))
	login := func(jwt, role string) (token string) {
		t.Helper()
		_, out := call("", "POST", "auth/ci/login", map[string]string{"jwt": jwt, "role": role})
		auth, _ := out["auth"].(map[string]any)
		token, _ = auth["client_token"].(string)
		return token
	}
	token := login(f.mint("bank"), "main")
	if code, out := call(token, "GET", "secret/data/main", nil); code != http.StatusOK || !strings.Contains(fmt.Sprint(out), "of main") {
		t.Fatalf("read its secret: %d %v", code, out)
	}
	if code, out := call(token, "GET", "secret/data/"+url.PathEscape("production"), nil); code != http.StatusForbidden {
		t.Errorf("read another's: %d %v", code, out)
	}
	good := f.mint("bank")
	late := func() string {
		f.now = time.Now().Add(-time.Hour)
		defer func() { f.now = time.Now() }()
		return f.mint("bank")
	}()
	for what, c := range map[string]struct{ jwt, role string }{
		"the role of an environment": {good, "production"}, "another audience": {f.mint("sts.amazonaws.com"), "main"},
		"an altered signature": {good[:len(good)-10] + "AAAAAAAAAA", "main"}, "expired": {late, "main"},
	} {
		if login(c.jwt, c.role) != "" {
			t.Errorf("%s: let in", what)
		}
	}
	_, err := f.s.Issuers.RotateIssuer(f.admin, sallyport.RotateIssuer{Compromised: true})
	check(t, err)
	if login(f.mint("bank"), "main") == "" {
		t.Error("a new key is not taken")
	}
	if login(good, "main") != "" {
		t.Log("this server still takes what a destroyed key has signed: it has kept the keys")
	}
}
