// What the Go drivers make of errors: asks for keys 0..COUNT, odd ones with a statement called idempotent.
//
//	errors HOST PORT COUNT
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	gocql "github.com/gocql/gocql"
)

func number(text string) int {
	value, err := strconv.Atoi(text)
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	cluster := gocql.NewCluster(os.Args[1])
	cluster.Port, cluster.ProtoVersion, cluster.Timeout = number(os.Args[2]), 4, 10*time.Second
	_ = snappy
	session, err := cluster.CreateSession()
	check(err)
	replication := "{'class': 'SimpleStrategy', 'replication_factor': 1}"
	check(session.Query("CREATE KEYSPACE IF NOT EXISTS errors WITH replication = " + replication).Exec())
	check(session.Query("CREATE TABLE IF NOT EXISTS errors.t (k int PRIMARY KEY, v int)").Exec())
	for key := 0; key < number(os.Args[3]); key++ {
		var v int
		err := session.Query("SELECT v FROM errors.t WHERE k = ?", key).Idempotent(key%2 == 1).Scan(&v)
		if err == gocql.ErrNotFound {
			fmt.Printf("key %d succeeds\n", key)
		} else {
			fmt.Printf("key %d %T\n", key, err)
		}
		time.Sleep(100 * time.Millisecond) // a connection that is closed because of it is closed by then
	}
	_ = session.Query("SELECT v FROM errors.t WHERE k = ?", number(os.Args[3])).Exec()
}
