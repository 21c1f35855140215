// Colours of terminal output (ECMA-48 SGR) as classes of the stylesheet.
// The server does the same for the page without script: ansi.go.

const none = () => ({ fg: 0, bg: 0, bo: false, di: false, it: false, un: false, flip: false });

/** segments splits a line at its SGR sequences into [class, text] pairs. */
export function segments(text) {
  if (!text.includes('\x1b[')) return [['', text]];
  const out = [];
  let state = none();
  let last = 0;
  const sequence = /\x1b\[([0-9;:]*)([\x40-\x7e]?)/g;
  for (let m; (m = sequence.exec(text));) {
    if (m.index > last) out.push([classOf(state), text.slice(last, m.index)]);
    last = sequence.lastIndex;
    if (m[2] === 'm') state = apply(state, (m[1] || '0').split(/[;:]/).filter(Boolean).map(Number));
  }
  if (last < text.length) out.push([classOf(state), text.slice(last)]);
  return out;
}

/** plain is the line without its colours. */
export function plain(text) {
  return text.includes('\x1b[') ? text.replace(/\x1b\[[0-9;:]*[\x40-\x7e]?/g, '') : text;
}

function apply(s, params) {
  for (let i = 0; i < params.length; i++) {
    const n = params[i];
    if (n === 0) s = none();
    else if (n === 1) s.bo = true;
    else if (n === 2) s.di = true;
    else if (n === 3) s.it = true;
    else if (n === 4) s.un = true;
    else if (n === 7) s.flip = true;
    else if (n === 22) s.bo = s.di = false;
    else if (n === 23) s.it = false;
    else if (n === 24) s.un = false;
    else if (n === 27) s.flip = false;
    else if (n >= 30 && n <= 37) s.fg = n - 29;
    else if (n >= 90 && n <= 97) s.fg = n - 81;
    else if (n >= 40 && n <= 47) s.bg = n - 39;
    else if (n >= 100 && n <= 107) s.bg = n - 91;
    else if (n === 39) s.fg = 0;
    else if (n === 49) s.bg = 0;
    else if (n === 38 || n === 48) {
      const [colour, used] = extended(params.slice(i + 1));
      i += used;
      if (n === 38) s.fg = colour; else s.bg = colour;
    }
  }
  return s;
}

function extended(p) {
  if (p.length >= 2 && p[0] === 5) {
    let n = p[1] & 255;
    if (n < 16) return [n + 1, 2];
    if (n >= 232) { const v = (n - 232) * 10; return [nearest(v, v, v), 2]; }
    n -= 16;
    return [nearest(Math.floor(n / 36) * 51, (Math.floor(n / 6) % 6) * 51, (n % 6) * 51), 2];
  }
  if (p.length >= 4 && p[0] === 2) return [nearest(p[1] & 255, p[2] & 255, p[3] & 255), 4];
  return [0, p.length];
}

function nearest(r, g, b) {
  const top = Math.max(r, g, b);
  if (top < 48) return 1;
  if (top - Math.min(r, g, b) < 32) return top < 140 ? 9 : top < 220 ? 8 : 16;
  const half = Math.floor(top / 2);
  return 1 + (r > half) + 2 * (g > half) + 4 * (b > half) + (top > 200 ? 8 : 0);
}

function classOf(s) {
  const c = [];
  const [fg, bg] = s.flip ? [s.bg, s.fg] : [s.fg, s.bg];
  if (s.flip && !fg && !bg) c.push('flip');
  if (fg) c.push(`f${fg - 1}`);
  if (bg) c.push(`b${bg - 1}`);
  for (const k of ['bo', 'di', 'it', 'un']) if (s[k]) c.push(k);
  return c.join(' ');
}
