// Sallyport's own module: what it adds is comfort, the pages work without it.
// It keeps parts marked data-fragment up to date, counts running times, and
// offers to copy. The log viewer is in log.js.

const fragmentHeader = 'Sallyport-Fragment';

const refreshGap = 250; // milliseconds, so that a busy run does not keep the page busy
let refreshing = null;
let again = false;

/** refresh brings the fragments up to date; calls that come meanwhile become one more. */
export function refresh() {
  again = !!refreshing;
  refreshing ??= (async () => {
    do {
      again = false;
      await load();
      if (again) await new Promise((r) => { setTimeout(r, refreshGap); });
    } while (again);
    refreshing = null;
  })();
  return refreshing;
}

/** load fetches this page again and replaces the fragments that differ. */
async function load() {
  let html;
  try {
    const answer = await fetch(location.pathname + location.search, { headers: { [fragmentHeader]: '1' }, cache: 'no-store' });
    if (answer.status === 401) { location.assign('/login'); return; }
    if (!answer.ok) return;
    html = await answer.text();
  } catch {
    return; // offline; the next change or poll tries again
  }
  const fresh = new DOMParser().parseFromString(html, 'text/html');
  for (const old of document.querySelectorAll('[data-fragment]')) {
    const now = [...fresh.querySelectorAll('[data-fragment]')].find((e) => e.dataset.fragment === old.dataset.fragment);
    if (now && now.outerHTML !== old.dataset.seen) replace(old, now);
  }
  tick();
}

/** replace swaps a fragment but keeps what the reader has opened, scrolled and focused. */
function replace(old, now) {
  now = document.importNode(now, true);
  now.dataset.seen = '';
  const seen = now.outerHTML.replace(' data-seen=""', '');
  const keep = (a, b, f) => a.forEach((e, i) => b[i] && f(e, b[i]));
  const all = (root, what) => [...root.querySelectorAll(what)];
  const same = all(old, 'details').length === all(now, 'details').length;
  if (same) keep(all(old, 'details'), all(now, 'details'), (a, b) => { b.open = a.open; });
  const scrolled = all(old, '.graph, .tail, .scroll').map((e) => [e.scrollLeft, e.scrollTop]);
  const focus = all(old, 'a, button, summary, input').indexOf(document.activeElement);
  old.replaceWith(now);
  now.dataset.seen = seen;
  all(now, '.graph, .tail, .scroll').forEach((e, i) => { if (scrolled[i]) [e.scrollLeft, e.scrollTop] = scrolled[i]; });
  if (focus >= 0) all(now, 'a, button, summary, input')[focus]?.focus({ preventScroll: true });
  decorate(now);
  now.dispatchEvent(new CustomEvent('fragment', { bubbles: true }));
}

/** say puts a word into the page's live region, for eyes and ears. */
export function say(text) {
  const status = document.getElementById('status');
  if (!status || status.textContent === text) return;
  status.textContent = text;
  status.classList.toggle('empty', !text);
}

/**
 * follow opens an event stream and closes it while the page is hidden for long, since
 * browsers allow few connections to one host. url() is asked at every opening.
 */
export function follow(url, handlers) {
  let source = null;
  let over = false;
  let hide = 0;
  const open = () => {
    if (source || over) return;
    source = new EventSource(url());
    for (const [name, f] of Object.entries(handlers)) source.addEventListener(name, f);
    source.addEventListener('done', () => { over = true; close(); });
    source.addEventListener('error', () => {
      if (source && source.readyState === EventSource.CLOSED) { source = null; if (!over) setTimeout(open, 3000); }
    });
  };
  const close = () => { source?.close(); source = null; };
  document.addEventListener('visibilitychange', () => {
    clearTimeout(hide);
    if (document.hidden) hide = setTimeout(close, 20000); else open();
  });
  open();
}

/** duration is formatDuration of the server, for times that run on. */
function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const two = (n) => String(n).padStart(2, '0');
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${two(s % 60)}s`;
  return `${Math.floor(s / 3600)}h ${two(Math.floor(s / 60) % 60)}m`;
}

function agoText(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 0) return null;
  if (s < 10) return 'just now';
  if (s < 60) return `${s}s ago`;
  if (s < 3600) return `${Math.floor(s / 60)}m ago`;
  if (s < 172800) return `${Math.floor(s / 3600)}h ago`;
  return `${Math.floor(s / 86400)}d ago`;
}

// The server's clock, not the reader's: pages are compared with the Date of this answer.
let skew = 0;

function tick() {
  const now = Date.now() + skew;
  for (const e of document.querySelectorAll('[data-since]')) e.textContent = duration(now - Number(e.dataset.since));
  for (const e of document.querySelectorAll('time[data-ago]')) {
    const text = agoText(now - Date.parse(e.dateTime));
    if (text && e.textContent !== text) e.textContent = text;
  }
}

/** decorate adds the buttons that only make sense with script. */
function decorate(root) {
  for (const e of root.querySelectorAll('[data-copy]')) {
    const text = e.textContent.trim();
    const b = document.createElement('button');
    b.type = 'button';
    b.className = e.tagName === 'PRE' ? 'copy' : 'copy beside';
    b.textContent = 'Copy';
    b.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(text);
        b.textContent = 'Copied';
        say('Copied.');
      } catch {
        getSelection().selectAllChildren(e.tagName === 'PRE' ? e.firstElementChild : e);
        b.textContent = 'Press Ctrl+C';
      }
      setTimeout(() => { b.textContent = 'Copy'; say(''); }, 2000);
    });
    if (e.tagName === 'PRE') e.append(b); else e.after(b);
  }
}

function start() {
  const served = Number(document.body.dataset.now);
  if (served) skew = served - Date.now();
  decorate(document);
  tick();
  setInterval(tick, 1000);
  const { live, poll } = document.body.dataset;
  if (live) follow(() => live, { changed: refresh, done: () => refresh().then(() => say('The run has ended.')) });
  if (poll) setInterval(() => { if (!document.hidden && !document.querySelector('details.act[open], dialog[open]')) refresh(); }, Number(poll) * 1000);
  const viewer = document.getElementById('viewer');
  if (viewer) import('./log.js').then((m) => m.start(viewer));
}

start();
