//! Makes Rust of the contract that the RPC preset ships, without protoc. Methods that nobody wrote answer UNIMPLEMENTED.

use std::error::Error;

const FOLDER: &str = "../../proxy/rpc/presets";
const FILE: &str = "../../proxy/rpc/presets/bsky.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FILE}");
    let files = protox::compile([FILE], [FOLDER])?;
    tonic_prost_build::configure()
        .build_transport(true)
        .generate_default_stubs(true)
        .bytes(".bsky")
        .compile_fds(files)?;
    Ok(())
}
