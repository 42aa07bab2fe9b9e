//! Generates the gRPC code of kubelet's APIs and of the CRI call, without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "dra-v1.proto",
        "pluginregistration-v1.proto",
        "podresources-v1.proto",
        "cri-v1-status.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    tonic_prost_build::configure().compile_fds(protox::compile(files, ["proto"])?)?;
    Ok(())
}
