package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

// withModules makes rooms in which node finds the toolkits of actions.
type withModules struct {
	sallyport.Sandbox
	dir string
}

func (w withModules) Prepare(ctx context.Context, spec sallyport.RoomSpec) (sallyport.Room, error) {
	spec.Binds = append(spec.Binds, sallyport.Bind{Source: w.dir, Target: "/node_modules", ReadOnly: true})
	return w.Sandbox.Prepare(ctx, spec)
}

// toolkits finds the toolkits of actions as scripts/toolkits.sh installed them.
func toolkits(t testing.TB) string {
	t.Helper()
	lock, err := os.ReadFile("../toolkit/testdata/npm/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(cache, "sallyport", "toolkits", hex.EncodeToString(sum[:])[:16], "node_modules")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the toolkits of actions are not installed: scripts/toolkits.sh does it where it reaches npm's registry")
	}
	return dir
}

// coreAction uses all of @actions/core, and artifacts, as actions do.
var coreAction = map[string]string{
	"action.yml": "name: core\ninputs:\n  list: {}\n  flag: { default: 'true' }\n  needed: { required: true }\nruns: { using: node20, main: main.mjs, post: post.mjs }\n",
	"main.mjs": `import assert from 'node:assert/strict'
import fs from 'node:fs'
import * as core from '@actions/core'
import artifact from '@actions/artifact'

assert.equal(core.getInput('needed'), 'väl ue')
assert.deepEqual(core.getMultilineInput('list'), ['a', 'b'])
assert.equal(core.getBooleanInput('flag'), true)
assert.throws(() => core.getInput('none', { required: true }), /not supplied/)
core.setSecret('a secret\nin two lines')
core.info('masked: in two lines, and ' + Buffer.from('in two lines').toString('base64'))
core.setOutput('text', 'line 1\nline 2 %0A')
core.setOutput('object', { a: [1] })
core.exportVariable('EXPORTED', { b: 2 })
core.addPath('/opt/added')
assert.ok(process.env.PATH.startsWith('/opt/added:'))
core.saveState('kept', 'état\n2')
core.notice('a notice', { title: 'Title, here', file: 'src/a.js', startLine: 3, endLine: 4, startColumn: 2 })
core.warning('a warning\nof two lines')
core.error(new Error('an error'), { file: 'b.js' })
core.debug('a detail')
await core.group('grouped', async () => core.info('inside'))
core.startGroup('again'); core.info('inside too'); core.endGroup()
core.setCommandEcho(true); core.setCommandEcho(false)
assert.equal(core.toPlatformPath('a\\b'), 'a/b')
assert.equal(core.platform.isLinux, true)
await core.summary.addHeading('Head', 2).addRaw('raw', true).addTable([[{ data: 'x', header: true }], ['y']]).write()
const token = await core.getIDToken('aud')
core.info('token: ' + token)
fs.writeFileSync('made.txt', 'made')
const { id } = await artifact.uploadArtifact('from-action', ['made.txt'], '.')
core.setOutput('id', id)
fs.writeFileSync(process.env.RUNNER_TEMP + '/done', '')
`,
	"post.mjs": `import * as core from '@actions/core'
core.info('state: ' + JSON.stringify(core.getState('kept')))
core.setFailed('failed on purpose')
`,
}

// TestToolkitsInRoom runs an action that is made of the unmodified toolkits, in a real
// room without a network, and looks at what came of it.
func TestToolkitsInRoom(t *testing.T) {
	t.Parallel()
	modules := toolkits(t)
	yard := newFakeYard()
	tr := trial{yard: yard, remotes: map[string]map[string]string{"acme/core@v1": coreAction}, yaml: "permissions: {id-token: write}\n" + steps(`
- id: core
  uses: acme/core@v1
  with: { needed: väl ue, list: "a\nb\n" }
- run: |
    printf '%s|' "$TEXT" "$OBJECT" "$EXPORTED" "${PATH%%:*}"; echo
    env | grep -o '^ACTIONS_[A-Z_]*' | sort | tr '\n' ' '; echo; echo "server $GITHUB_SERVER_URL"
  env: { TEXT: '${{ steps.core.outputs.text }}', OBJECT: '${{ steps.core.outputs.object }}' }
- uses: actions/download-artifact@v4
  with: { artifact-ids: '${{ steps.core.outputs.id }}', path: in }
- run: cat in/made.txt
`)}
	lease := tr.lease(t)
	r := newTestRunner(t, yard, withModules{realSandbox(t), modules}, func(c *Config) { c.Path = "" })
	r.layout = newLayout
	r.do(t.Context(), lease)
	e := ended{JobResult: <-yard.result, lines: decodeLog(t, yard.log), yard: yard}
	for _, want := range []string{
		"masked: ***, and ***\n", "inside\n", "inside too\n", "token: ***\n",
		"line 1\nline 2 %0A|{\"a\":[1]}|{\"b\":2}|/opt/added|\n",
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN ACTIONS_ID_TOKEN_REQUEST_URL \nserver http://sallyport.test\n",
		"made", `state: "état\n2"` + "\n",
	} {
		if !strings.Contains(e.text(), want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if !strings.Contains(e.all(), "group|grouped\n") || !strings.Contains(e.all(), "debug|a detail\n") {
		t.Error("a group or a debug message is missing")
	}
	annotations, err := json.Marshal(e.step(1).Annotations)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"level":"notice","message":"a notice","title":"Title, here","file":"src/a.js","line":3,"end_line":4`,
		`"level":"warning","message":"a warning\nof two lines"`, `"level":"error","message":"Error: an error","file":"b.js"`,
	} {
		if !strings.Contains(string(annotations), want) {
			t.Errorf("annotations %s lack %s", annotations, want)
		}
	}
	if want := "<h2>Head</h2>\nraw\n<table><tr><th>x</th></tr><tr><td>y</td></tr></table>\n"; e.step(1).Summary != want {
		t.Errorf("summary %q, want %q", e.step(1).Summary, want)
	}
	// The part after the steps fails the job, as setFailed says.
	if e.Conclusion != sallyport.Failure || !strings.Contains(e.all(), "error|failed on purpose\n") {
		t.Errorf("%s: %s", e.Conclusion, e.Cause)
	}
	if last := e.Steps[len(e.Steps)-1]; last.Conclusion != sallyport.Failure || e.step(1).Conclusion != sallyport.Success {
		t.Errorf("steps %+v", e.Steps)
	}
	if t.Failed() {
		t.Log(e.all())
	}
}
