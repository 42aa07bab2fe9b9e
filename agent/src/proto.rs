//! Generated gRPC code: kubelet's DRA plugin, registration and PodResources APIs, and the one CRI call that the agent makes.

#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

pub mod dra {
    tonic::include_proto!("k8s.io.kubelet.pkg.apis.dra.v1");
}

pub mod registration {
    tonic::include_proto!("pluginregistration");
}

pub mod pod_resources {
    tonic::include_proto!("v1");
}

pub mod cri {
    tonic::include_proto!("runtime.v1");
}
