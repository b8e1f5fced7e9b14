// Reads rows as a part of one request of a service, as docs/amplification.md shows it for Go and CQL.
//
//	driver HOST PORT KEYSPACE VERSION TRACEID
package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"time"

	gocql "github.com/gocql/gocql"
)

// withID says which request of the service a query is a part of.
func withID(traceID string, query *gocql.Query) *gocql.Query {
	id, err := hex.DecodeString(traceID)
	if err != nil || len(id) != 16 {
		return query
	}
	return query.CustomPayload(map[string][]byte{"weir-request-id": id})
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	_ = snappy
	cluster := gocql.NewCluster(os.Args[1])
	var err error
	cluster.Port, err = strconv.Atoi(os.Args[2])
	check(err)
	cluster.ProtoVersion, err = strconv.Atoi(os.Args[4])
	check(err)
	cluster.Timeout = 60 * time.Second
	session, err := cluster.CreateSession()
	check(err)
	keys := make([]int, 1000)
	for k := range keys {
		keys[k] = k
	}
	count, k := 0, 0
	iter := withID(os.Args[5], session.Query("SELECT k FROM "+os.Args[3]+".t WHERE k IN ?", keys)).Iter()
	for iter.Scan(&k) {
		count++
	}
	check(iter.Close())
	fmt.Printf("found %d\n", count)
}
