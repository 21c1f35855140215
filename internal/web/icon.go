package web

import (
	"fmt"
	"html/template"
)

// icons are drawn on a grid of 16 with a stroke of the text's colour. They are
// decoration: every use stands beside words.
var icons = map[string]template.HTML{
	"ok":     `<circle cx="8" cy="8" r="6.25"/><path d="m5.2 8.2 2 2 3.6-4.2"/>`,
	"bad":    `<circle cx="8" cy="8" r="6.25"/><path d="m5.8 5.8 4.4 4.4m0-4.4-4.4 4.4"/>`,
	"busy":   `<circle cx="8" cy="8" r="6.25" class="track"/><path d="M8 1.75A6.25 6.25 0 0 1 14.25 8" class="arc"/>`,
	"wait":   `<circle cx="8" cy="8" r="6.25" stroke-dasharray="2.6 2.3"/><path d="M8 5v3.2l2 1.3"/>`,
	"off":    `<circle cx="8" cy="8" r="6.25"/><path d="M5 8h6"/>`,
	"warn":   `<path d="M8 2.2 14.4 13.4H1.6Z"/><path d="M8 6.6v3M8 11.4v.1"/>`,
	"home":   `<path d="M2.5 7.2 8 2.5l5.5 4.7v6.3h-4V9.8h-3v3.7h-4Z"/>`,
	"folder": `<path d="M1.8 12.8V3.4h4.4l1.5 1.8h6.5v7.6Z"/>`,
	"runs":   `<circle cx="3.6" cy="4" r="1.8"/><circle cx="12.4" cy="4" r="1.8"/><circle cx="8" cy="12" r="1.8"/><path d="M3.6 5.8c0 3 2.4 2.6 4.4 4.4M12.4 5.8c0 3-2.4 2.6-4.4 4.4"/>`,
	"rocket": `<path d="M8 1.8c2.6 1.6 3.6 4 3.4 7.2H4.6C4.4 5.8 5.4 3.4 8 1.8Z"/><path d="M4.6 7.6 2.6 10v2.4l2.6-1.6M11.4 7.6l2 2.4v2.4l-2.6-1.6M8 11v3.4"/><circle cx="8" cy="6" r="1.1"/>`,
	"gate":   `<path d="M2.2 13.8V6.6a2.6 2.6 0 0 1 5.2 0v7.2M8.6 13.8V6.6a2.6 2.6 0 0 1 5.2 0v7.2M1 13.8h14M4.8 4v9.8"/>`,
	"book":   `<path d="M3 2.4h8.2a1.8 1.8 0 0 1 1.8 1.8v9.4H4.6A1.6 1.6 0 0 1 3 12Z"/><path d="M3 12a1.6 1.6 0 0 1 1.6-1.6H13M5.8 5.2h4.4"/>`,
	"key":    `<circle cx="5" cy="10.8" r="2.9"/><path d="m7.1 8.8 6-6.2M10.6 5.2l2 2M9 6.9l1.4 1.4"/>`,
	"server": `<rect x="2" y="2.6" width="12" height="4.6" rx="1.2"/><rect x="2" y="8.8" width="12" height="4.6" rx="1.2"/><path d="M4.6 4.9h.1M4.6 11.1h.1"/>`,
	"box":    `<path d="M8 1.8 13.8 4.8v6.4L8 14.2 2.2 11.2V4.8Z"/><path d="M2.4 4.9 8 7.8l5.6-2.9M8 7.8v6.2"/>`,
	"seal":   `<path d="M8 1.6 13.4 3.6v4.2c0 3.2-2.2 5.4-5.4 6.6-3.2-1.2-5.4-3.4-5.4-6.6V3.6Z"/><path d="m5.6 7.9 1.7 1.7 3.1-3.5"/>`,
	"commit": `<circle cx="8" cy="8" r="2.7"/><path d="M1 8h4.3M10.7 8H15"/>`,
	"branch": `<circle cx="4.4" cy="3.4" r="1.6"/><circle cx="4.4" cy="12.6" r="1.6"/><circle cx="11.6" cy="4.8" r="1.6"/><path d="M4.4 5v6M11.6 6.4c0 2.8-4.4 2-7.2 4"/>`,
	"person": `<circle cx="8" cy="5.2" r="2.7"/><path d="M2.6 14c.4-3 2.5-4.6 5.4-4.6S13 11 13.4 14"/>`,
	"clock":  `<circle cx="8" cy="8" r="6.25"/><path d="M8 4.4V8l2.4 1.6"/>`,
	"back":   `<path d="M6 3.6 2.4 7.2 6 10.8"/><path d="M2.6 7.2h7a3.8 3.8 0 0 1 0 7.6H6"/>`,
	"stop":   `<rect x="3.6" y="3.6" width="8.8" height="8.8" rx="1.5"/>`,
	"down":   `<path d="M8 2.2v7.6M4.6 6.8 8 10.2l3.4-3.4M2.4 13.6h11.2"/>`,
	"file":   `<path d="M3.4 1.8h6L12.6 5v9.2H3.4Z"/><path d="M9.2 1.8v3.4h3.4"/>`,
	"out":    `<path d="M6.6 3H3v10h10V9.4M9 2.6h4.4V7M13.2 2.8 7.4 8.6"/>`,
}

// icon returns the inline SVG of a known icon.
func icon(name string) (template.HTML, error) {
	body, ok := icons[name]
	if !ok {
		return "", fmt.Errorf("no icon %q", name)
	}
	return `<svg class="icon i-` + template.HTML(name) + `" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">` + body + `</svg>`, nil
}
