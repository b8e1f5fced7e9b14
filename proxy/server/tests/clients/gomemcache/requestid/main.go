// Command requestid reads keys as a part of one request of a service, as docs/amplification.md shows it for Go and memcached.
package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// withID puts the request's id before the keys: weir takes it out, and any other server finds no such key.
func withID(traceID string, keys []string) []string {
	id, err := hex.DecodeString(traceID)
	if err != nil || len(id) != 16 {
		return keys
	}
	return append([]string{"__weir:" + base64.RawURLEncoding.EncodeToString(id)}, keys...)
}

func main() {
	client := memcache.New(os.Args[1])
	client.Timeout = 30 * time.Second
	var keys []string
	for number := range 20000 {
		keys = append(keys, fmt.Sprintf("key:%d", number))
	}
	items, err := client.GetMulti(withID(os.Args[2], keys))
	if err != nil {
		panic(err)
	}
	fmt.Printf("found %d\n", len(items))
}
