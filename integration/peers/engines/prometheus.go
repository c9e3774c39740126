//go:build !promql_engine

package main

import "github.com/prometheus/prometheus/promql"

func newEngine() promql.QueryEngine { return promql.NewEngine(options()) }
