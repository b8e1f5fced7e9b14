module weir.invalid/cql-driver

go 1.22

require github.com/apache/cassandra-gocql-driver/v2 v2.1.2

require (
	github.com/golang/snappy v0.0.3 // indirect
	gopkg.in/inf.v0 v0.9.1 // indirect
)
