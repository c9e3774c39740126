// Times a Go engine for PromQL on block folders. Standard input gives lines `start end step query`, times in seconds,
// step 0 for an instant query; each is run once, and standard output gets one line of JSON for it. Which engine it is
// was chosen when it was built: Prometheus' own, or with -tags promql_engine thanos-io/promql-engine.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

type run struct {
	MS     float64 `json:"ms"`
	CPU    float64 `json:"cpu_ms"`
	Points int     `json:"points"`
	Sum    float64 `json:"sum"`
	Error  string  `json:"error,omitempty"`
}

func options() promql.EngineOpts {
	return promql.EngineOpts{
		MaxSamples:               math.MaxInt,
		Timeout:                  10 * time.Minute,
		LookbackDelta:            5 * time.Minute,
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	}
}

// blocks answers queries over time as a TSDB without a head does.
type blocks []*tsdb.Block

func open(folder string) (blocks, error) {
	metas, err := filepath.Glob(filepath.Join(folder, "*", "meta.json"))
	if err != nil {
		return nil, err
	}
	var opened blocks
	for _, meta := range metas {
		logger := slog.New(slog.DiscardHandler)
		block, err := tsdb.OpenBlock(logger, filepath.Dir(meta), nil, tsdb.DefaultPostingsDecoderFactory)
		if err != nil {
			return nil, err
		}
		opened = append(opened, block)
	}
	if len(opened) == 0 {
		return nil, fmt.Errorf("no block folders in %s", folder)
	}
	return opened, nil
}

func (b blocks) Querier(mint, maxt int64) (storage.Querier, error) {
	var queriers []storage.Querier
	for _, block := range b {
		if !block.OverlapsClosedInterval(mint, maxt) {
			continue
		}
		querier, err := tsdb.NewBlockQuerier(block, mint, maxt)
		if err != nil {
			return nil, err
		}
		queriers = append(queriers, querier)
	}
	return storage.NewMergeQuerier(queriers, nil, storage.ChainedSeriesMerge), nil
}

// line is a query and when it is asked for.
type line struct {
	start, end, step float64
	query            string
}

func parse(text string) (line, error) {
	parts := strings.SplitN(text, " ", 4)
	if len(parts) != 4 {
		return line{}, fmt.Errorf("%q: expected `start end step query`", text)
	}
	var numbers [3]float64
	for i := range numbers {
		number, err := strconv.ParseFloat(parts[i], 64)
		if err != nil {
			return line{}, err
		}
		numbers[i] = number
	}
	return line{numbers[0], numbers[1], numbers[2], parts[3]}, nil
}

func at(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }

func (l line) prepare(engine promql.QueryEngine, source storage.Queryable) (promql.Query, error) {
	ctx, opts := context.Background(), promql.NewPrometheusQueryOpts(false, 0)
	if l.step == 0 {
		return engine.NewInstantQuery(ctx, source, opts, l.query, at(l.end))
	}
	step := time.Duration(l.step * float64(time.Second))
	return engine.NewRangeQuery(ctx, source, opts, l.query, at(l.start), at(l.end), step)
}

func (l line) run(engine promql.QueryEngine, source storage.Queryable) run {
	// what an earlier query left is not this one's work
	runtime.GC()
	cpu, start := cpuTime(), time.Now()
	query, err := l.prepare(engine, source)
	if err != nil {
		return run{Error: err.Error()}
	}
	defer query.Close()
	result := query.Exec(context.Background())
	elapsed, used := time.Since(start), cpuTime()-cpu
	if result.Err != nil {
		return run{Error: result.Err.Error()}
	}
	points, sum := total(result.Value)
	return run{MS: elapsed.Seconds() * 1000, CPU: used.Seconds() * 1000, Points: points, Sum: sum}
}

// cpuTime is that of all threads, garbage collection included.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// total says how many points there are and adds up those that are finite, of histograms their sums.
func total(value parser.Value) (points int, sum float64) {
	add := func(value float64) {
		points++
		if !math.IsNaN(value) && !math.IsInf(value, 0) {
			sum += value
		}
	}
	switch value := value.(type) {
	case promql.Matrix:
		for _, series := range value {
			for _, point := range series.Floats {
				add(point.F)
			}
			for _, point := range series.Histograms {
				add(point.H.Sum)
			}
		}
	case promql.Vector:
		for _, sample := range value {
			if sample.H != nil {
				add(sample.H.Sum)
			} else {
				add(sample.F)
			}
		}
	case promql.Scalar:
		add(value.V)
	}
	return points, sum
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: engine FOLDER_OF_BLOCKS < QUERIES")
		os.Exit(2)
	}
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(folder string) error {
	source, err := open(folder)
	if err != nil {
		return err
	}
	engine := newEngine()
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		line, err := parse(lines.Text())
		if err != nil {
			return err
		}
		if err := out.Encode(line.run(engine, source)); err != nil {
			return err
		}
	}
	return lines.Err()
}
