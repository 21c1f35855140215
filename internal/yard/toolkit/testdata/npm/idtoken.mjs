// Drives the OIDC client of @actions/core.
import assert from 'node:assert/strict'
import * as core from '@actions/core'

assert.equal(await core.getIDToken(), 'token.of.job1.')
assert.equal(await core.getIDToken('sts.example'), 'token.of.job1.sts.example')
await assert.rejects(core.getIDToken('refused'), /403[^]*may not have ID tokens \(a hint\)/)
console.log('all is well')
