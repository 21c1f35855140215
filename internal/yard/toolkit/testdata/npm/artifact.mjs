// Drives @actions/artifact as actions do: argv[2] is the package.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'

const module = await import(process.argv[2])
const client = module.DefaultArtifactClient ? new module.DefaultArtifactClient() : module.default.create()

const root = fs.mkdtempSync('/tmp/root-')
fs.mkdirSync(path.join(root, 'sub'))
fs.writeFileSync(path.join(root, 'a.txt'), 'one')
const big = crypto.randomBytes(20 << 20) // several blocks
fs.writeFileSync(path.join(root, 'sub/b.bin'), big)
fs.writeFileSync(path.join(root, 'empty'), '')
const files = ['a.txt', 'sub/b.bin', 'empty'].map(f => path.join(root, f))

const made = await client.uploadArtifact('dist', files, root, { compressionLevel: 0, retentionDays: 1 })
assert.ok(made.id > 0 && made.size > big.length, `uploaded ${JSON.stringify(made)}`)
await assert.rejects(client.uploadArtifact('dist', files, root), /409.*already exists/)
await assert.rejects(client.uploadArtifact('a/b', files, root), /invalid|not valid/i)
const second = await client.uploadArtifact('répertoire 2', [files[0]], root)

const { artifacts } = await client.listArtifacts()
assert.deepEqual(artifacts.map(a => a.name).sort(), ['dist', 'répertoire 2'])
const { artifact } = await client.getArtifact('dist')
assert.equal(artifact.id, made.id)
assert.notEqual(second.id, made.id)
await assert.rejects(client.getArtifact('nothing'), /not found/i)

const to = fs.mkdtempSync('/tmp/to-')
const got = await client.downloadArtifact(made.id, { path: to, expectedHash: artifact.digest })
assert.equal(got.downloadPath, to)
assert.ok(!got.digestMismatch)
assert.deepEqual(fs.readdirSync(to, { recursive: true }).sort(), ['a.txt', 'empty', 'sub', 'sub/b.bin'])
assert.ok(fs.readFileSync(path.join(to, 'sub/b.bin')).equals(big))
assert.equal(fs.readFileSync(path.join(to, 'a.txt'), 'utf8'), 'one')
await assert.rejects(client.downloadArtifact(1, { path: to }), /No artifacts found/)

if (process.argv[2] === '@actions/artifact') { // newer than the other
  fs.writeFileSync(path.join(root, 'page.html'), '<p>hello')
  const raw = await client.uploadArtifact('ignored', [path.join(root, 'page.html')], root, { skipArchive: true })
  await client.downloadArtifact(raw.id, { path: to })
  assert.equal(fs.readFileSync(path.join(to, 'page.html'), 'utf8'), '<p>hello')
}
console.log('all is well')
