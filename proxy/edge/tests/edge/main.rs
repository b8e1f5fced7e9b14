//! The edge between real clients (tonic, hyper, curl) and a scripted service. Each test says what reached the service, and
//! over how many connections.

mod abuse;
mod drain;
mod grpc;
mod http1;
mod support;
mod upstream;
