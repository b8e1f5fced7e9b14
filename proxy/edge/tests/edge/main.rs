//! The edge between real clients (tonic, hyper, curl) and a scripted service. Each test says what reached the service, and
//! over how many connections.

mod abuse;
mod cache;
mod cache_bounds;
#[path = "../../../rpc/tests/samples/data_plane.rs"]
mod data_plane;
mod drain;
mod grpc;
mod http1;
#[path = "../../../rpc/tests/samples/json.rs"]
mod json;
#[path = "../../../rpc/tests/samples/mod.rs"]
mod samples;
mod servers;
mod split;
mod split_encodings;
mod split_ends;
mod split_memory;
mod support;
mod upstream;
mod upstream_tls;
