//go:build promql_engine

package main

import (
	"github.com/prometheus/prometheus/promql"
	"github.com/thanos-io/promql-engine/engine"
)

func newEngine() promql.QueryEngine { return engine.New(engine.Opts{EngineOpts: options()}) }
