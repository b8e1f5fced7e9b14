// Command gomemcache drives a memcached with the Go client of the services weir was made for, a check per feature. Like
// them it keeps the client's default of two idle connections, so that a goroutine per key is a connection per key.
//
// It prints "ok NAME" per check and "done" at the end; the first wrong answer ends it with exit code 1. With -storm it does
// what the service of April 2026 did (storm.go).
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

func ok(name string, detail ...any) {
	if len(detail) == 0 {
		fmt.Printf("ok %s\n", name)
		return
	}
	fmt.Printf("ok %s: %s\n", name, fmt.Sprint(detail...))
}

func must(what string, err error) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func fail(format string, arguments ...any) {
	fmt.Printf("failed "+format+"\n", arguments...)
	os.Exit(1)
}

func wants(what string, err, wanted error) {
	if !errors.Is(err, wanted) {
		fail("%s: got %v instead of %v", what, err, wanted)
	}
}

func main() {
	server := flag.String("server", "", "host:port or the path of a Unix socket")
	count := flag.Int("keys", 15000, "keys of the large batch")
	atOnce := flag.Int("goroutines", 15000, "goroutines that look up a key each, all at once")
	source := flag.String("source", "", "the address that connections are made from")
	rounds := flag.Int("storm", 0, "no checks: ask for all keys so many times, and tell what failed")
	flag.Parse()
	client := memcache.New(*server)
	client.Timeout = 60 * time.Second
	if *source != "" {
		client.DialContext = from(*source)
	}
	if *rounds > 0 {
		storm(*server, client, *count, *atOnce, *rounds)
		return
	}

	must("ping", client.Ping())
	ok("ping")
	must("flush", client.FlushAll())

	must("set", client.Set(&memcache.Item{Key: "name", Value: []byte("value"), Flags: 7}))
	ok("set")
	item, err := client.Get("name")
	must("get", err)
	if string(item.Value) != "value" || item.Flags != 7 {
		fail("get: %q with flags %d", item.Value, item.Flags)
	}
	ok("get")
	_, err = client.Get("nobody")
	wants("miss", err, memcache.ErrCacheMiss)
	ok("miss")

	wants("add", client.Add(&memcache.Item{Key: "name", Value: []byte("other")}), memcache.ErrNotStored)
	must("add", client.Add(&memcache.Item{Key: "new", Value: []byte("1")}))
	ok("add")
	wants("replace", client.Replace(&memcache.Item{Key: "nobody", Value: []byte("1")}), memcache.ErrNotStored)
	must("replace", client.Replace(&memcache.Item{Key: "name", Value: []byte("b")}))
	ok("replace")
	must("append", client.Append(&memcache.Item{Key: "name", Value: []byte("c")}))
	must("prepend", client.Prepend(&memcache.Item{Key: "name", Value: []byte("a")}))
	item, err = client.Get("name")
	must("get", err)
	if string(item.Value) != "abc" {
		fail("append and prepend made %q", item.Value)
	}
	ok("append and prepend")

	must("set", client.Set(&memcache.Item{Key: "number", Value: []byte("40")}))
	if value, err := client.Increment("number", 5); err != nil || value != 45 {
		fail("increment: %d, %v", value, err)
	}
	if value, err := client.Decrement("number", 3); err != nil || value != 42 {
		fail("decrement: %d, %v", value, err)
	}
	_, err = client.Increment("nobody", 1)
	wants("increment", err, memcache.ErrCacheMiss)
	ok("increment and decrement")

	swap(client)
	ok("cas")

	must("touch", client.Touch("name", 100))
	wants("touch", client.Touch("nobody", 100), memcache.ErrCacheMiss)
	ok("touch")
	must("delete", client.Delete("name"))
	wants("delete", client.Delete("name"), memcache.ErrCacheMiss)
	ok("delete")

	large := bytes.Repeat([]byte("0123456789"), 90_000)
	must("large value", client.Set(&memcache.Item{Key: "large", Value: large}))
	item, err = client.Get("large")
	must("large value", err)
	if !bytes.Equal(item.Value, large) {
		fail("large value: another one of %d bytes", len(item.Value))
	}
	ok("large value")

	batches(client, *count, *atOnce)

	must("flush", client.FlushAll())
	_, err = client.Get(key(1))
	wants("flush", err, memcache.ErrCacheMiss)
	ok("flush")
	fmt.Println("done")
}

// swap lets 16 writers add to one counter by compare-and-swap: no addition may be lost.
func swap(client *memcache.Client) {
	must("set", client.Set(&memcache.Item{Key: "shared", Value: []byte{0}}))
	item, err := client.Get("shared")
	must("get", err)
	must("cas", client.CompareAndSwap(&memcache.Item{Key: "shared", Value: []byte{0}, CasID: item.CasID}))
	stale := &memcache.Item{Key: "shared", Value: []byte{9}, CasID: item.CasID}
	wants("cas", client.CompareAndSwap(stale), memcache.ErrCASConflict)
	var group sync.WaitGroup
	for range 16 {
		group.Add(1)
		go func() {
			defer group.Done()
			for added := 0; added < 10; {
				item, err := client.Get("shared")
				must("cas", err)
				item.Value[0]++
				switch err := client.CompareAndSwap(item); {
				case err == nil:
					added++
				case !errors.Is(err, memcache.ErrCASConflict):
					fail("cas: %v", err)
				}
			}
		}()
	}
	group.Wait()
	item, err = client.Get("shared")
	must("cas", err)
	if item.Value[0] != 160 {
		fail("cas: 160 additions made %d", item.Value[0])
	}
}

func key(number int) string   { return fmt.Sprintf("go:%d", number) }
func value(number int) []byte { return fmt.Appendf(nil, "value %d", number) }

// batches looks up all keys in one request, then a goroutine each, all released at the same moment.
func batches(client *memcache.Client, count, atOnce int) {
	var group sync.WaitGroup
	for worker := range 16 {
		group.Add(1)
		go func() {
			defer group.Done()
			for number := worker; number < count; number += 16 {
				must("set", client.Set(&memcache.Item{Key: key(number), Value: value(number)}))
			}
		}()
	}
	group.Wait()
	keys := make([]string, count)
	for number := range keys {
		keys[number] = key(number)
	}
	begun := time.Now()
	items, err := client.GetMulti(keys)
	must("GetMulti", err)
	took := time.Since(begun)
	if len(items) != count {
		fail("GetMulti found %d of %d keys", len(items), count)
	}
	for number := range keys {
		if !bytes.Equal(items[key(number)].Value, value(number)) {
			fail("GetMulti: %s is %q", key(number), items[key(number)].Value)
		}
	}
	ok("GetMulti", count, " keys in ", took.Round(time.Millisecond))

	var failed, wrong atomic.Int64
	var first atomic.Value
	release := make(chan struct{})
	for number := range atOnce {
		group.Add(1)
		go func() {
			defer group.Done()
			<-release
			switch item, err := client.Get(key(number)); {
			case err != nil:
				failed.Add(1)
				first.CompareAndSwap(nil, err.Error())
			case !bytes.Equal(item.Value, value(number)):
				wrong.Add(1)
			}
		}()
	}
	begun = time.Now()
	close(release)
	group.Wait()
	if failed.Load()+wrong.Load() > 0 {
		fail("goroutines: of %d calls %d failed (%v), %d were wrong", atOnce, failed.Load(), first.Load(), wrong.Load())
	}
	ok("goroutines", atOnce, " calls in ", time.Since(begun).Round(time.Millisecond))
}
