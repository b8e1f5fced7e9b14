package main

import driver "github.com/apache/cassandra-gocql-driver/v2/snappy"

var snappy = driver.SnappyCompressor{}
