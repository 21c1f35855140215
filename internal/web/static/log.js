// The log viewer: holds the whole log in memory and only the visible lines in
// the document. Rows are of one height, so that a place is a multiplication.

import { plain, segments } from './ansi.js';
import { follow, refresh, say } from './app.js';

const rowHeight = 20;
const overscan = 12;
const maxHeight = 15_000_000; // pixels; browsers lay out no more (Firefox: about 17.8 million)
const maxShown = 4000; // characters of one line in the document; the raw log has all

const help = [['j / k', 'next / previous step'], ['e', 'next error'], ['/', 'search'], ['n / N', 'next / previous match'],
  ['g / G', 'start / end'], ['f', 'follow the end'], ['t', 'times'], ['c', 'fold or unfold all steps'], ['?', 'these keys']];

/** Log is what is known of the log: lines, steps, folds, and the rows they make. */
class Log {
  lines = []; // {t, s, k, x}
  rows = []; // index of a line, or -1 - index of a step in heads
  heads = []; // {step, from, to}: a run of lines of one step
  folded = new Set(); // of heads' indexes and of 'g' + line index
  errors = [];

  add(batch) {
    for (const line of batch) {
      const i = this.lines.push(line) - 1;
      let head = this.heads[this.heads.length - 1];
      if (!head || head.step !== line.s) {
        head = { step: line.s, from: i, to: i };
        this.rows.push(-1 - (this.heads.push(head) - 1));
      }
      head.to = i;
      if (line.k === 'error') this.errors.push(i);
      this.show(i);
    }
  }

  // show appends the row of line i unless it lies in a fold.
  show(i) {
    const line = this.lines[i];
    if (line.k === 'group') this.group = i;
    const inner = this.group !== undefined && line.k !== 'group';
    line.g = inner ? this.group : undefined;
    const ends = line.k === 'endgroup' || (this.group !== undefined && this.lines[this.group].s !== line.s);
    if (ends) { this.group = undefined; if (line.k !== 'endgroup') line.g = undefined; }
    if (line.k === 'endgroup') return;
    if (this.folded.has(this.heads.length - 1) || (line.g !== undefined && this.folded.has(`g${line.g}`))) return;
    this.rows.push(i);
  }

  // rebuild makes the rows anew after a fold was opened or closed.
  rebuild() {
    this.rows = [];
    this.heads.forEach((head, h) => {
      this.rows.push(-1 - h);
      if (this.folded.has(h)) return;
      for (let i = head.from; i <= head.to; i++) {
        const line = this.lines[i];
        if (line.k !== 'endgroup' && !(line.g !== undefined && this.folded.has(`g${line.g}`))) this.rows.push(i);
      }
    });
  }

  // rowOf returns the row of line i by binary search: rows are in order of lines.
  rowOf(i) {
    let low = 0;
    let high = this.rows.length - 1;
    const at = (r) => (this.rows[r] >= 0 ? this.rows[r] : this.heads[-1 - this.rows[r]].from - 0.5);
    while (low < high) {
      const mid = (low + high + 1) >> 1;
      if (at(mid) <= i) low = mid; else high = mid - 1;
    }
    return low;
  }

  headOf(i) {
    return this.heads.findIndex((h) => h.from <= i && i <= h.to);
  }

  unfold(i) {
    const h = this.headOf(i);
    const g = `g${this.lines[i]?.g}`;
    if (this.folded.delete(h) | this.folded.delete(g)) this.rebuild();
  }
}

class Viewer {
  log = new Log();
  offset = 0; // bytes received
  matches = [];
  match = -1;
  query = '';
  chosen = null; // [from, to], lines from 0

  constructor(root) {
    this.root = root;
    this.box = root.querySelector('#log');
    this.names = new Map();
    this.following = root.dataset.state !== 'completed';
    this.wanted = this.fromHash();
    this.build();
    this.readSteps();
    document.addEventListener('fragment', () => this.readSteps());
    document.addEventListener('keydown', (e) => this.key(e));
    addEventListener('hashchange', () => this.goHash());
    addEventListener('resize', () => this.paint());
    this.connect();
  }

  build() {
    const el = make;
    this.box.replaceChildren();
    this.box.className = 'log live';
    this.box.tabIndex = 0;
    this.box.setAttribute('role', 'region');
    this.box.setAttribute('aria-label', 'Lines of the log. Press question mark for the keys.');
    this.space = el('div', 'log-space');
    this.window = el('div', 'log-window');
    this.space.append(this.window);
    this.box.append(this.space);
    this.root.querySelector('.log-next').hidden = true;

    const tools = this.root.querySelector('.log-tools');
    this.search = el('input');
    this.search.type = 'search';
    this.search.placeholder = 'Search';
    this.search.setAttribute('aria-label', 'Search the log');
    this.search.addEventListener('input', () => this.find(this.search.value));
    this.search.addEventListener('keydown', (e) => {
      if (e.key === 'Enter') { e.preventDefault(); this.step(e.shiftKey ? -1 : 1); }
      if (e.key === 'Escape') { this.search.value = ''; this.find(''); this.box.focus(); }
    });
    this.count = el('span', 'log-count');
    this.count.setAttribute('aria-live', 'polite');
    this.followButton = this.button('Follow', () => this.setFollow(!this.following));
    this.timesButton = this.button('Times', () => this.times());
    tools.append(this.search, this.count, this.button('Error', () => this.nextError(), 'Next error'), this.button('Top', () => this.top()),
      this.button('End', () => this.end()), this.followButton, this.timesButton, this.button('Keys', () => this.keys()));
    tools.hidden = false;
    this.setFollow(this.following);
    this.box.addEventListener('scroll', () => this.scrolled(), { passive: true });
    this.box.addEventListener('click', (e) => this.click(e));
  }

  button(text, act, label) {
    const b = make('button', '', text);
    b.type = 'button';
    if (label) b.setAttribute('aria-label', label);
    b.addEventListener('click', act);
    return b;
  }

  // readSteps takes the names and states of the steps from the list beside the log.
  readSteps() {
    const attempt = Number(document.getElementById('steps')?.dataset.attempt);
    if (this.attempt > 0 && attempt > this.attempt) location.reload(); // another attempt has another log
    this.attempt = attempt;
    this.names = new Map([[0, { name: 'The room', state: '' }]]);
    for (const li of document.querySelectorAll('[data-step]')) {
      this.names.set(Number(li.dataset.step), { name: li.querySelector('.step-name').textContent, state: li.dataset.state, tone: li.dataset.tone, took: li.querySelector('.took')?.textContent });
    }
    this.paint();
  }

  connect() {
    let have = this.root.dataset.have;
    follow(() => `${this.root.dataset.events}?offset=${this.offset}&have=${have}`, {
      lines: (e) => this.receive(e),
      changed: () => { have = ''; refresh(); },
      end: () => this.complete(),
      done: () => refresh(),
      fault: (e) => say(e.data),
    });
  }

  receive(e) {
    const batch = [];
    for (const text of e.data.split('\n')) {
      let line;
      try { line = JSON.parse(text); } catch { line = { k: 'system', x: 'this line of the log cannot be read' }; }
      line.s ??= 0;
      line.x = String(line.x ?? '');
      batch.push(line);
    }
    this.offset = Number(e.lastEventId) || this.offset;
    const before = this.log.lines.length;
    this.log.add(batch);
    if (this.query) this.collect(before);
    if (this.wanted && this.log.lines.length > this.wanted[0]) this.goHash();
    else if (!this.touched && location.hash.startsWith('#step-')) this.goHash();
    this.layout();
    if (this.following) this.end(true); else this.paint();
    this.counted();
  }

  complete() {
    this.finished = true;
    if (this.following) { this.setFollow(false); this.end(true); }
    if (this.wanted === null && this.root.dataset.conclusion === 'failure' && this.log.errors.length && !this.touched) this.go(this.log.errors[0]);
    if (!this.log.lines.length) this.window.replaceChildren(make('p', 'log-empty', 'This job wrote no log.'));
    this.counted();
  }

  // layout sets the height of the whole; beyond what a browser lays out, it is scaled.
  layout() {
    const full = this.log.rows.length * rowHeight + 8;
    this.scale = Math.max(1, full / maxHeight);
    this.space.style.height = `${full / this.scale}px`;
  }

  paint() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
  }

  draw() {
    const height = this.box.clientHeight;
    const scale = this.scale || 1;
    const first = (this.box.scrollTop * scale) / rowHeight;
    const from = Math.max(0, Math.floor(first) - overscan);
    const to = Math.min(this.log.rows.length, Math.ceil(first + height / rowHeight) + overscan);
    const rows = [];
    for (let r = from; r < to; r++) rows.push(this.row(this.log.rows[r]));
    if (rows.length) this.window.replaceChildren(...rows);
    const top = scale === 1 ? from * rowHeight : this.box.scrollTop - (first - from) * rowHeight;
    this.window.style.transform = `translateY(${top}px)`;
    this.markStep(this.log.rows[Math.min(this.log.rows.length - 1, Math.max(0, Math.floor(first)))]);
  }

  row(r) {
    if (r < 0) return this.headRow(-1 - r);
    const line = this.log.lines[r];
    const row = make('div', `ln k-${/^[a-z]+$/.test(line.k ?? '') ? line.k : ''}`);
    row.dataset.line = r;
    if (this.chosen && r >= this.chosen[0] && r <= this.chosen[1]) row.classList.add('chosen');
    if (this.matches[this.match] === r) row.classList.add('found');
    const no = make('a', 'no', String(r + 1));
    no.href = `#L${r + 1}`;
    row.append(no, make('span', 'at', line.t ? new Date(line.t).toISOString().slice(11, 23) : ''));
    const tx = make('span', 'tx');
    if (line.k === 'group') tx.append(make('span', 'tw', this.log.folded.has(`g${r}`) ? '▸' : '▾'));
    const text = line.x.length > maxShown ? `${line.x.slice(0, maxShown)} … ${line.x.length} characters, see the raw log` : line.x;
    for (const [style, part] of segments(text)) this.piece(tx, style, part);
    row.append(tx);
    return row;
  }

  // piece appends one part of a line, with what the search has found in it marked.
  piece(tx, style, part) {
    const into = style ? make('span', style) : tx;
    if (style) tx.append(into);
    const query = this.query;
    let at = 0;
    if (query) {
      const low = part.toLowerCase();
      for (let i; (i = low.indexOf(query, at)) >= 0; at = i + query.length) into.append(part.slice(at, i), make('mark', '', part.slice(i, i + query.length)));
    }
    into.append(part.slice(at));
  }

  headRow(h) {
    const head = this.log.heads[h];
    const step = this.names.get(head.step) ?? { name: `Step ${head.step}`, state: '' };
    const row = make('button', 'log-step');
    row.type = 'button';
    row.dataset.head = h;
    const folded = this.log.folded.has(h);
    row.setAttribute('aria-expanded', String(!folded));
    row.append(make('span', 'tw', folded ? '▸' : '▾'), make('span', '', step.name));
    if (step.state) row.append(make('span', `badge t-${step.tone}`, step.state));
    if (step.took) row.append(make('span', 'took', step.took));
    return row;
  }

  markStep(r) {
    if (r === undefined) return;
    const step = r < 0 ? this.log.heads[-1 - r].step : this.log.lines[r].s;
    for (const li of document.querySelectorAll('[data-step]')) li.classList.toggle('now', Number(li.dataset.step) === step);
  }

  scrolled() {
    if (this.following && !this.moving && this.box.scrollTop + this.box.clientHeight < this.box.scrollHeight - 3 * rowHeight) this.setFollow(false);
    this.moving = false;
    this.paint();
  }

  toRow(r, middle = true) {
    const place = (r * rowHeight) / (this.scale || 1) - (middle ? this.box.clientHeight / 3 : 0);
    this.moving = true;
    this.box.scrollTop = Math.max(0, place);
    this.paint();
  }

  go(i, middle = true) {
    this.log.unfold(i);
    this.layout();
    this.toRow(this.log.rowOf(i), middle);
  }

  top() { this.leave(); this.box.scrollTop = 0; }

  end(quiet) {
    if (!quiet) this.touched = true;
    this.moving = true;
    this.layout();
    this.box.scrollTop = this.box.scrollHeight;
    this.paint();
  }

  // leave stops following, because the reader went somewhere.
  leave() { this.touched = true; this.setFollow(false); }

  setFollow(on) {
    this.following = on;
    this.followButton?.setAttribute('aria-pressed', String(on));
    if (on) this.end();
  }

  times() {
    const on = this.box.classList.toggle('times');
    this.timesButton.setAttribute('aria-pressed', String(on));
  }

  nextError() {
    this.leave();
    const here = this.errorAt ?? -1;
    const next = this.log.errors.find((i) => i > here) ?? this.log.errors[0];
    if (next === undefined) { say('No error line.'); return; }
    this.errorAt = next;
    this.chosen = [next, next];
    this.go(next);
  }

  // jumpStep goes to the beginning of another step.
  jumpStep(by) {
    this.leave();
    const first = Math.round((this.box.scrollTop * (this.scale || 1)) / rowHeight);
    const heads = [];
    this.log.rows.forEach((r, i) => { if (r < 0) heads.push(i); });
    const to = by > 0 ? heads.find((i) => i > first) : heads.findLast((i) => i < first);
    if (to !== undefined) this.toRow(to, false);
  }

  foldAll() {
    const all = this.log.heads.every((_, h) => this.log.folded.has(h));
    this.log.folded = new Set(all ? [] : this.log.heads.keys());
    this.log.rebuild();
    this.layout();
    this.paint();
  }

  find(text) {
    this.query = text.toLowerCase();
    this.matches = [];
    this.match = -1;
    if (this.query) this.collect(0);
    if (this.matches.length) { this.step(1); } else { this.counted(); this.paint(); }
  }

  collect(from) {
    const { lines } = this.log;
    for (let i = from; i < lines.length; i++) {
      if (plain(lines[i].x).toLowerCase().includes(this.query)) this.matches.push(i);
    }
  }

  // step goes to the next or previous match, from where the reader is.
  step(by) {
    const n = this.matches.length;
    if (!n) return;
    this.leave();
    this.match = this.match < 0 && by < 0 ? n - 1 : (this.match + by + n) % n;
    this.go(this.matches[this.match]);
    this.counted();
  }

  counted() {
    const n = (x) => x.toLocaleString('en');
    this.count.textContent = this.query
      ? (this.matches.length ? `${n(this.match + 1)} of ${n(this.matches.length)}` : 'no match')
      : `${n(this.log.lines.length)} lines${this.finished ? '' : ' …'}`;
  }

  fromHash() {
    const m = /^#L(\d{1,9})(?:-L?(\d{1,9}))?$/.exec(location.hash);
    if (!m) return null;
    const [a, b] = [Number(m[1]) - 1, Number(m[2] ?? m[1]) - 1];
    return [Math.min(a, b), Math.max(a, b)];
  }

  goHash() {
    const step = /^#step-(\d{1,6})$/.exec(location.hash);
    const head = step && this.log.heads.find((h) => h.step === Number(step[1]));
    if (head) { this.leave(); this.go(head.from, false); this.toRow(this.log.rowOf(head.from - 0.5), false); return; }
    const range = this.fromHash();
    if (!range) return;
    this.wanted = range;
    if (this.log.lines.length <= range[0]) return;
    this.setFollow(false);
    this.chosen = range;
    this.go(range[0]);
    if (this.log.lines.length > range[1]) this.wanted = undefined;
  }

  click(e) {
    const no = e.target.closest('.no');
    if (no) {
      e.preventDefault();
      const i = Number(no.parentElement.dataset.line);
      const from = e.shiftKey && this.chosen ? Math.min(this.chosen[0], i) : i;
      const to = e.shiftKey && this.chosen ? Math.max(this.chosen[0], i) : i;
      this.chosen = [from, to];
      history.replaceState(null, '', from === to ? `#L${from + 1}` : `#L${from + 1}-L${to + 1}`);
      this.paint();
      return;
    }
    const head = e.target.closest('.log-step');
    const group = e.target.closest('.k-group');
    if (!head && !group) return;
    const key = head ? Number(head.dataset.head) : `g${group.dataset.line}`;
    if (!this.log.folded.delete(key)) this.log.folded.add(key);
    this.log.rebuild();
    this.layout();
    this.draw();
    if (head) this.window.querySelector(`[data-head="${key}"]`)?.focus({ preventScroll: true });
  }

  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest('input, textarea, select, dialog')) return;
    const act = {
      j: () => this.jumpStep(1), k: () => this.jumpStep(-1), n: () => this.step(1), N: () => this.step(-1), '/': () => this.search.focus(),
      g: () => this.top(), G: () => { this.leave(); this.end(); }, f: () => this.setFollow(!this.following), e: () => this.nextError(),
      t: () => this.times(), c: () => this.foldAll(), '?': () => this.keys(),
    }[e.key];
    if (!act) return;
    e.preventDefault();
    act();
  }

  keys() {
    const d = make('dialog');
    const list = make('dl', 'keys');
    for (const [k, text] of help) {
      const dt = make('dt');
      dt.append(make('kbd', '', k));
      list.append(dt, make('dd', '', text));
    }
    const close = make('button', '', 'Close');
    close.addEventListener('click', () => d.close());
    d.append(make('h2', '', 'Keys'), list, close);
    d.addEventListener('close', () => { d.remove(); this.box.focus(); });
    document.body.append(d);
    d.showModal();
  }
}

function make(tag, className = '', text = '') {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text) e.textContent = text;
  return e;
}

export function start(root) {
  const viewer = new Viewer(root);
  // A link to a step beside the log moves the log, not the page.
  document.addEventListener('click', (e) => {
    const a = e.target.closest('.steps a[href^="#step-"]');
    if (!a) return;
    e.preventDefault();
    history.replaceState(null, '', a.getAttribute('href'));
    viewer.goHash();
  });
}
