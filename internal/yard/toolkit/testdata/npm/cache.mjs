// Drives @actions/cache as actions do: argv[2] is the package, argv[3] what to do.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'

const module = await import(process.argv[2])
const cache = module.restoreCache ? module : module.default
assert.ok(cache.isFeatureAvailable())

const paths = ['deps', '/tmp/store/**/*.bin']
const key = 'deps-linux-1'
const big = crypto.createHash('sha512').update('seed').digest()

function fill (megabytes) {
  fs.mkdirSync('deps/sub', { recursive: true })
  fs.mkdirSync('/tmp/store/x', { recursive: true })
  fs.writeFileSync('deps/sub/a', 'one')
  fs.symlinkSync('sub/a', 'deps/link')
  const file = fs.openSync('/tmp/store/x/b.bin', 'w') // does not get smaller: several pieces
  const prng = crypto.createCipheriv('aes-128-ctr', big.subarray(0, 16), big.subarray(16, 32))
  for (let i = 0; i < megabytes; i++) fs.writeSync(file, prng.update(Buffer.alloc(1 << 20)))
  fs.closeSync(file)
}
const sum = () => crypto.createHash('sha256').update(fs.readFileSync('/tmp/store/x/b.bin')).digest('hex')
function empty () {
  fs.rmSync('deps', { recursive: true, force: true })
  fs.rmSync('/tmp/store', { recursive: true, force: true })
}

switch (process.argv[3]) {
  case 'all': {
    assert.equal(await cache.restoreCache(paths.slice(), key, ['deps-']), undefined)
    fill(40)
    const before = sum()
    assert.ok(await cache.saveCache(paths.slice(), key, { uploadChunkSize: 32 << 20 }) >= 0)
    assert.equal(await cache.saveCache(paths.slice(), key), -1, 'a cache was saved twice')
    empty()
    assert.equal(await cache.restoreCache(paths.slice(), key), key)
    assert.equal(fs.readFileSync('deps/link', 'utf8'), 'one')
    assert.equal(sum(), before)
    empty()
    assert.equal(await cache.restoreCache(paths.slice(), 'deps-linux-2', ['other-', 'deps-lin']), key)
    assert.equal(fs.readFileSync('deps/sub/a', 'utf8'), 'one')
    empty()
    assert.equal(await cache.restoreCache(paths.slice(), key, [], { lookupOnly: true }), key)
    assert.ok(!fs.existsSync('deps'))
    assert.equal(await cache.restoreCache(['deps'], key), undefined, 'other paths are another version')
    await assert.rejects(cache.restoreCache(paths.slice(), 'a,b'), /cannot contain commas/)
    break
  }
  case 'refused':
    fill(1)
    assert.equal(await cache.saveCache(paths.slice(), 'mine'), -1)
    assert.equal(await cache.restoreCache(paths.slice(), 'theirs'), undefined)
    break
}
console.log('all is well')
