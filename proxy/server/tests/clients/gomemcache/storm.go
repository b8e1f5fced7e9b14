package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// gap is the time from one request of the storm to the next: fewer than three a second.
const gap = 400 * time.Millisecond

// from dials from a chosen source address, as the client of April 2026 did: bind(2) takes a port before the destination is
// known, so that a port that waits towards one destination is lost for all of them.
func from(address string) func(context.Context, string, string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return dialer.DialContext
}

// storm does what the service of April 2026 did, so many times: a request asks for all keys, in one multiget and then by a
// goroutine each, all released at the same moment. Calls that fail are counted and told; a wrong answer ends it.
func storm(server string, client *memcache.Client, count, atOnce, rounds int) {
	// One goroutine, so one connection: the ports are left to the storm.
	filler := memcache.New(server)
	filler.Timeout = client.Timeout
	keys := make([]string, count)
	for number := range keys {
		keys[number] = key(number)
		must("set", filler.Set(&memcache.Item{Key: key(number), Value: value(number)}))
	}
	must("close", filler.Close())
	ok("stored")

	errors := map[string]int{}
	var lock sync.Mutex
	failed := func(err error) {
		lock.Lock()
		defer lock.Unlock()
		errors[err.Error()]++
	}
	ok("storm")
	for range rounds {
		begun := time.Now()
		if items, err := client.GetMulti(keys); err != nil {
			failed(err)
		} else if len(items) != count {
			fail("GetMulti found %d of %d keys", len(items), count)
		}
		var group sync.WaitGroup
		release := make(chan struct{})
		for number := range atOnce {
			group.Add(1)
			go func() {
				defer group.Done()
				<-release
				item, err := client.Get(key(number % count))
				switch {
				case err != nil:
					failed(err)
				case string(item.Value) != string(value(number%count)):
					fail("storm: %s is %q", key(number%count), item.Value)
				}
			}()
		}
		close(release)
		group.Wait()
		time.Sleep(gap - time.Since(begun))
	}
	ok("calls", rounds*(1+atOnce))
	for _, text := range slices.Sorted(maps.Keys(errors)) {
		fmt.Printf("error %d: %s\n", errors[text], text)
	}
	fmt.Println("done")
}
