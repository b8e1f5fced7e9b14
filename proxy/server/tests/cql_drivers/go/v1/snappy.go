package main

import gocql "github.com/gocql/gocql"

var snappy = gocql.SnappyCompressor{}
