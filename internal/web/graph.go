package web

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// graph is the picture of a run: a card for each job of the workflow, in columns
// from left to right so that every job stands right of those it needs.
type graph struct {
	Width, Height int
	Cards         []card
	Edges         []edge
}

// card is one job of the workflow with its matrix cells, or with the jobs of the
// workflow that it calls.
type card struct {
	Key        string
	X, Y, W, H int
	Tone       string
	Title      string
	Cells      []cell // of a list; a job without one has a single cell
	More       string // "and 17 more"
	List       bool   // a matrix or a call
}

// cell is one Job on a card.
type cell struct {
	Job     sallyport.Job
	Name    string
	URL     string
	X, Y, W int
}

// edge leads from a needed job to the one that needs it.
type edge struct {
	Path string // of SVG
	Tone string // of the needed job
}

const (
	cardWidth  = 220
	cardHead   = 28
	cellHeight = 30
	soloHeight = 44
	columnGap  = 40
	rowGap     = 14
	graphPad   = 2
	maxCells   = 8 // of one card; a larger matrix is summed up
	maxName    = 24
)

// layOut places the jobs of a run. Jobs come in the order of the plan: every
// one after those it needs.
func layOut(run sallyport.RunID, jobs []sallyport.Job) graph {
	groups, order := map[string][]sallyport.Job{}, []string(nil)
	below := map[sallyport.JobID][]sallyport.Job{}
	for _, j := range jobs {
		if j.Parent != "" {
			below[j.Parent] = append(below[j.Parent], j)
			continue
		}
		if _, ok := groups[j.Key]; !ok {
			order = append(order, j.Key)
		}
		groups[j.Key] = append(groups[j.Key], j)
	}
	needs := reducedNeeds(groups, order)
	columns := columnsOf(needs, order)
	var g graph
	place := map[string]int{} // index in g.Cards
	for x, keys := range columns {
		sortByParents(keys, needs, place, g.Cards)
		y := graphPad
		for _, key := range keys {
			c := newCard(run, groups[key], below, graphPad+x*(cardWidth+columnGap), y)
			place[key] = len(g.Cards)
			g.Cards = append(g.Cards, c)
			y += c.H + rowGap
		}
		g.Height = max(g.Height, y-rowGap+graphPad)
	}
	g.centre(columns, place)
	g.Width = len(columns)*(cardWidth+columnGap) - columnGap + 2*graphPad
	for _, key := range order {
		for _, need := range needs[key] {
			g.Edges = append(g.Edges, edgeBetween(g.Cards[place[need]], g.Cards[place[key]]))
		}
	}
	return g
}

// reducedNeeds returns the needs of each key without those that follow from others,
// so that no line runs behind a card.
func reducedNeeds(groups map[string][]sallyport.Job, order []string) map[string][]string {
	above := map[string]map[string]bool{} // all that a key needs, directly or not
	out := map[string][]string{}
	for _, key := range order {
		above[key] = map[string]bool{}
		var direct []string
		for _, n := range groups[key][0].Needs {
			if above[n] != nil && n != key {
				direct = append(direct, n)
			}
		}
		for _, n := range direct {
			above[key][n] = true
			for a := range above[n] {
				above[key][a] = true
			}
		}
		for _, n := range direct {
			implied := slices.ContainsFunc(direct, func(other string) bool { return above[other][n] })
			if !implied {
				out[key] = append(out[key], n)
			}
		}
	}
	return out
}

// columnsOf puts each key one column right of the furthest that it needs.
func columnsOf(needs map[string][]string, order []string) [][]string {
	depth, columns := map[string]int{}, [][]string(nil)
	for _, key := range order {
		d := 0
		for _, n := range needs[key] {
			d = max(d, depth[n]+1)
		}
		depth[key] = d
		for len(columns) <= d {
			columns = append(columns, nil)
		}
		columns[d] = append(columns[d], key)
	}
	return columns
}

// sortByParents orders a column by the mean height of what its jobs need,
// which keeps most lines from crossing.
func sortByParents(keys []string, needs map[string][]string, place map[string]int, cards []card) {
	mean := func(key string) int {
		sum := 0
		for _, n := range needs[key] {
			c := cards[place[n]]
			sum += c.Y + c.H/2
		}
		return sum / max(1, len(needs[key]))
	}
	slices.SortStableFunc(keys, func(a, b string) int { return mean(a) - mean(b) })
}

// centre moves each column to the middle of the picture's height.
func (g *graph) centre(columns [][]string, place map[string]int) {
	for _, keys := range columns {
		last := g.Cards[place[keys[len(keys)-1]]]
		shift := (g.Height - graphPad - last.Y - last.H) / 2
		for _, key := range keys {
			g.Cards[place[key]].move(shift)
		}
	}
}

func (c *card) move(dy int) {
	c.Y += dy
	for i := range c.Cells {
		c.Cells[i].Y += dy
	}
}

func newCard(run sallyport.RunID, jobs []sallyport.Job, below map[sallyport.JobID][]sallyport.Job, x, y int) card {
	c := card{Key: jobs[0].Key, X: x, Y: y, W: cardWidth, Tone: worst(jobs), Title: jobs[0].Key}
	matrix := len(jobs) > 1 || len(jobs[0].Matrix) > len("null") // "{}" is no matrix
	shown := leaves(jobs, below)
	c.List = matrix || len(below[jobs[0].ID]) > 0
	if c.List && !matrix {
		c.Title = cut(jobs[0].Name, maxName)
	}
	if all := shown; len(all) > maxCells {
		shown = slices.Clone(all)
		slices.SortStableFunc(shown, func(a, b sallyport.Job) int { return urgency(b) - urgency(a) })
		shown = shown[:maxCells-1]
		c.More = fmt.Sprintf("and %d more below", len(all)-len(shown))
	}
	top := y
	if c.List {
		top += cardHead
	}
	for i, j := range shown {
		c.Cells = append(c.Cells, cell{Job: j, Name: cut(cellName(j, jobs[0], matrix), maxName), X: x, Y: top + i*cellHeight, W: cardWidth,
			URL: "/runs/" + string(run) + "/jobs/" + string(j.ID)})
	}
	switch {
	case !c.List:
		c.H = soloHeight
	case c.More != "":
		c.H = cardHead + (len(shown)+1)*cellHeight + 4
	default:
		c.H = cardHead + len(shown)*cellHeight + 4
	}
	return c
}

// leaves are the jobs themselves, those of called workflows in place of their callers.
func leaves(jobs []sallyport.Job, below map[sallyport.JobID][]sallyport.Job) []sallyport.Job {
	var out []sallyport.Job
	for _, j := range jobs {
		if called := below[j.ID]; len(called) > 0 {
			out = append(out, leaves(called, below)...)
		} else {
			out = append(out, j)
		}
	}
	return out
}

// cellName is a job's name without what the title of its card says already.
func cellName(j, first sallyport.Job, matrix bool) string {
	if !matrix {
		return strings.TrimPrefix(j.Name, first.Name+" / ")
	}
	if rest, ok := strings.CutPrefix(j.Name, first.Key+" ("); ok {
		values, called, _ := strings.Cut(rest, ")")
		return values + called
	}
	return j.Name
}

// urgency orders jobs by how much they want to be seen.
func urgency(j sallyport.Job) int {
	return slices.Index([]string{"off", "ok", "wait", "warn", "busy", "bad"}, toneOfJob(j))
}

func toneOfJob(j sallyport.Job) string {
	b, _ := badgeOf(j) // a Job has one
	return b.Tone
}

func worst(jobs []sallyport.Job) string {
	most := slices.MaxFunc(jobs, func(a, b sallyport.Job) int { return urgency(a) - urgency(b) })
	return toneOfJob(most)
}

func edgeBetween(from, to card) edge {
	x1, y1, x2, y2 := from.X+from.W, from.Y+from.H/2, to.X, to.Y+to.H/2
	mid := (x1 + x2) / 2
	return edge{Tone: from.Tone, Path: fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, mid, y1, mid, y2, x2, y2)}
}

// cut shortens foreign text to n characters.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
