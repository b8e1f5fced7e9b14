// The Go driver against one CQL address: what a service does with it. Prints "ok NAME: figures" lines, then "done".
//
//	driver HOST PORT KEYSPACE VERSION COMPRESSION(none|snappy) [tls=CA] [reconnect]
//
// With "reconnect" it says "ready" once everything else is done, expects the server to go away and to come back, and
// says how long no request succeeded. Lines with "rows=" are the same whatever stands between it and the cluster.
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	gocql "github.com/gocql/gocql"
)

const rows, keys, page, burst = 1000, 15000, 100, 200

var keyspace = os.Args[3]

func ok(name, said string) { fmt.Printf("ok %s: %s\n", name, said) }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func expect(holds bool, what ...any) {
	if !holds {
		panic(fmt.Sprint(what...))
	}
}

func session(keyspace string) *gocql.Session {
	cluster := gocql.NewCluster(os.Args[1])
	var err error
	cluster.Port, err = strconv.Atoi(os.Args[2])
	check(err)
	cluster.ProtoVersion, err = strconv.Atoi(os.Args[4])
	check(err)
	if os.Args[5] == "snappy" {
		cluster.Compressor = snappy
	}
	for _, given := range os.Args {
		if ca, is := strings.CutPrefix(given, "tls="); is {
			cluster.SslOpts = &gocql.SslOptions{CaPath: ca, EnableHostVerification: true}
		}
	}
	expect(cluster.DefaultTimestamp, "it sends timestamps unless it is told otherwise")
	cluster.Keyspace, cluster.Timeout = keyspace, 60*time.Second
	cluster.ReconnectInterval = time.Second // of hosts that are down; the default is a minute
	made, err := cluster.CreateSession()
	check(err)
	return made
}

// digest reads all rows; pages are as long as the query says.
func digest(query *gocql.Query) string {
	hashed, count := sha256.New(), 0
	var k int
	var v string
	iter := query.Iter()
	for iter.Scan(&k, &v) {
		fmt.Fprintf(hashed, "%d=%s;", k, v)
		count++
	}
	check(iter.Close())
	return fmt.Sprintf("rows=%d digest=%x", count, hashed.Sum(nil)[:8])
}

// identical reads many times at once, each with the timestamp that the driver gives it: one answer for all.
func identical(read func() string) string {
	alone, found := read(), make(chan string, burst)
	for range burst {
		go func() { found <- read() }()
	}
	for range burst {
		one := <-found
		expect(one == alone, one, " is not ", alone)
	}
	return alone
}

func eventually(what string, holds func() bool) string {
	begun := time.Now()
	for !holds() {
		expect(time.Since(begun) < 40*time.Second, "not within 40 s: ", what)
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Sprintf("%.2f s", time.Since(begun).Seconds())
}

// reconnect says how long no request succeeds while the server is away; each asks for an answer within a second.
func reconnect(session *gocql.Session, read string) string {
	fmt.Println("ready")
	begun, lost := time.Now(), time.Time{}
	for {
		expect(time.Since(begun) < 2*time.Minute, "never again")
		patience, cancel := context.WithTimeout(context.Background(), time.Second)
		err := session.Query(read, []int{1}).WithContext(patience).Exec()
		cancel()
		if err != nil && lost.IsZero() {
			lost = time.Now()
		}
		if err != nil {
			fmt.Printf("# %v\n", err)
		} else if !lost.IsZero() {
			return fmt.Sprintf("gap %.2f s", time.Since(lost).Seconds())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func main() {
	first := session("")
	ok("connect", "version "+os.Args[4])

	ddl := func(text string) { check(first.Query(text).Exec()) }
	ddl("DROP KEYSPACE IF EXISTS " + keyspace)
	ddl("CREATE KEYSPACE " + keyspace + " WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
	ddl("CREATE TABLE " + keyspace + ".t (k int PRIMARY KEY, v text)")
	ok("ddl", "")

	insert := "INSERT INTO " + keyspace + ".t (k, v) VALUES (?, ?)"
	for k := 0; k < rows; k++ {
		check(first.Query(insert, k*7, fmt.Sprintf("v%d", k)).Exec())
	}
	ok("inserts", strconv.Itoa(rows))

	read := "SELECT k, v FROM " + keyspace + ".t WHERE k IN ?"
	all := make([]int, keys)
	for k := range all {
		all[k] = k
	}
	ok("in", digest(first.Query(read, all)))
	ok("burst", identical(func() string {
		return digest(first.Query("SELECT k, v FROM "+keyspace+".t WHERE k = ?", 7))
	}))
	ok("paging", digest(first.Query("SELECT k, v FROM "+keyspace+".t").PageSize(page)))

	batch, batched := first.NewBatch(gocql.UnloggedBatch), make([]int, 20)
	for n := range batched {
		batched[n] = 100_000 + n
		batch.Query(insert, batched[n], "batched")
	}
	check(first.ExecuteBatch(batch))
	ok("batch", digest(first.Query(read, batched)))

	own, v := session(keyspace), ""
	check(own.Query("INSERT INTO t (k, v) VALUES (?, ?)", 200_000, "own").Exec())
	check(own.Query("SELECT v FROM t WHERE k = ?", 200_000).Scan(&v))
	expect(v == "own", v)
	ok("keyspaces", "")

	described, err := own.KeyspaceMetadata(keyspace)
	check(err)
	expect(described.Tables["t"].Columns["extra"] == nil, "known before") // kept until an event says otherwise
	ddl("ALTER TABLE " + keyspace + ".t ADD extra int")
	ok("schema change", eventually("the new column is seen", func() bool {
		described, err := own.KeyspaceMetadata(keyspace)
		return err == nil && described.Tables["t"].Columns["extra"] != nil
	}))
	own.Close()

	refused := func(text, why string) {
		err := first.Query(text).Exec()
		expect(err != nil && strings.Contains(err.Error(), why), text, ": ", err)
	}
	refused("SELEC nothing", "line 1")
	refused("SELECT * FROM "+keyspace+".nowhere", "nowhere")
	refused("SELECT nothing FROM "+keyspace+".t WHERE k = 1", "nothing")
	ok("errors", digest(first.Query(read, []int{7})))

	if os.Args[len(os.Args)-1] == "reconnect" {
		ok("reconnect", reconnect(first, read))
	}
	ddl("DROP KEYSPACE " + keyspace)
	first.Close()
	fmt.Println("done")
}
