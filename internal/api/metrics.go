package api

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	refused  prometheus.Counter
	pushes   *prometheus.CounterVec
}

func newMetrics(r *prometheus.Registry) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_http_requests_total", Help: "Requests answered, by route and status."}, []string{"route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sallyport_http_request_seconds", Help: "Time to answer, by route; waiting for events is part of it.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60}}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sallyport_http_requests_in_flight", Help: "Requests being answered."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_http_bad_credentials_total", Help: "Requests refused for their credential."}),
		pushes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_git_pushes_total", Help: "Git pushes, by outcome: accepted, refused."}, []string{"outcome"}),
	}
	return m, errors.Join(r.Register(m.requests), r.Register(m.duration), r.Register(m.inFlight), r.Register(m.refused), r.Register(m.pushes))
}

// done counts an answered request. The route is a pattern, never a path: paths
// are without number.
func (m *metrics) done(route string, status int, took time.Duration) {
	if route == "" || route == "/" {
		route = "other"
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(route).Observe(took.Seconds())
}
