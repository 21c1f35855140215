#!/usr/bin/env bash
# Makes the pictures of the README in docs/img: plays the demo on a new
# installation, draws what it printed as demo.svg, and takes screenshots of its
# pages with a headless browser. Needs chromium; takes about two minutes.
# Usage: scripts/shots.sh [BINARY]
set -euo pipefail
cd "$(dirname "$0")/.."
sallyport=$(realpath "${1:-bin/sallyport}")
out=$PWD/docs/img
command -v chromium >/dev/null || { echo "shots: chromium is needed: apt-get install chromium" >&2; exit 1; }
PATH=$PWD/bin:$PATH command -v cosign >/dev/null || { echo "shots: cosign is needed: make cosign" >&2; exit 1; }
[ -x "$sallyport" ] || { echo "shots: $sallyport is missing: make build" >&2; exit 1; }

data=$(mktemp -d /tmp/sallyport.XXXX)
said=$data/said
demo=
finish() {
  [ -z "$demo" ] || { kill "$demo" 2>/dev/null && wait "$demo" || true; }
  "$sallyport" down --data "$data" # releases outlive the control plane
  rm -rf "$data"
}
trap finish EXIT

"$sallyport" demo --data "$data" >"$data/cosign" 2>"$said" &
demo=$!
until grep -q '^Serving on' "$said"; do
  kill -0 "$demo" 2>/dev/null || { cat "$said" >&2; echo "shots: the demo failed" >&2; exit 1; }
  sleep 0.2
done

mkdir -p "$out"
{ sed '/^Look at it/,$d' "$said"; cat "$data/cosign"; } | awk -v data="$data" -v columns=132 '
function escape(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); gsub(/>/, "\\&gt;", s); return s }
{
  gsub(data, "/tmp/demo")
  if (index($0, "cosign ") == 1) { cosign = $0; next }
  if (length($0) > columns) $0 = substr($0, 1, columns - 1) "…"
  line[++n] = $0
}
END {
  while (n > 0 && line[n] == "") n--
  line[++n] = ""; line[++n] = "$ cosign verify-blob-attestation --bundle hello.sigstore.json --trusted-root trusted_root.json … hello"
  line[++n] = "Verified OK"
  step = 18; width = 7.83; left = 20; top = 52
  printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"What make demo prints\">\n", columns * width + 2 * left, n * step + top + 12, columns * width + 2 * left, n * step + top + 12
  print "<rect width=\"100%\" height=\"100%\" rx=\"10\" fill=\"#14161c\"/>"
  print "<g fill=\"#3a3f4b\"><circle cx=\"22\" cy=\"20\" r=\"6\"/><circle cx=\"42\" cy=\"20\" r=\"6\"/><circle cx=\"62\" cy=\"20\" r=\"6\"/></g>"
  print "<g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace\" font-size=\"13\" style=\"white-space:pre\">"
  for (i = 1; i <= n; i++) {
    if (line[i] == "") continue
    colour = "#c9cdd6"
    if (line[i] ~ /^──/) colour = "#a5a8ff"
    else if (line[i] ~ /✓/ || line[i] == "Verified OK") colour = "#6fd39a"
    else if (line[i] ~ /✗/) colour = "#ff8f85"
    else if (line[i] ~ /^\$/) colour = "#ffffff"
    else if (line[i] ~ /^ *[0-9.]+s/) colour = "#8d93a1"
    printf "<text x=\"%d\" y=\"%d\" fill=\"%s\">%s</text>\n", left, top + i * step - 8, colour, escape(line[i])
  }
  print "</g>"
  print "</svg>"
}' >"$out/demo.svg"

# The picture ends with what cosign says, so it has to say it.
PATH=$PWD/bin:$PATH sh "$data/cosign"

link=$("$sallyport" login --data "$data" 2>/dev/null)
SALLYPORT_SHOTS_LINK=$link SALLYPORT_SHOTS_DIR=$out go test -count=1 -run '^TestShots$' ./internal/web
ls -l "$out"
