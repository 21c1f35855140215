import assert from 'node:assert/strict';
import test from 'node:test';
import { slug } from './slug.js';

test('words are joined', () => assert.equal(slug('Hello, World!'), 'hello-world'));
test('accents go', () => assert.equal(slug('Crème brûlée'), 'creme-brulee'));
test('nothing is left of nothing', () => assert.equal(slug(' – '), ''));
