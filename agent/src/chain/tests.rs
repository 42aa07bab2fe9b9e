//! The chain against files in a folder and a runtime that answers on a socket.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::*;
use crate::proto::cri::{
    StatusRequest, StatusResponse,
    runtime_service_server::{RuntimeService, RuntimeServiceServer},
};

/// A container runtime that reads the configurations at every question, as containerd does after every change.
struct Runtime {
    conf_dir: PathBuf,
    settings: Arc<Mutex<Settings>>,
}

#[derive(Clone)]
struct Settings {
    bin_dir: PathBuf,
    version: String,
    cdi: Value,
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let settings = self.settings.lock().unwrap().clone();
        let entry = self.conf_dir.join("pod/99-railhead.conf").is_file();
        let plugins: &[&str] = if entry { &["ptp", "railhead"] } else { &["ptp"] };
        let mut chains = runtime::tests::chains(&settings.version, plugins);
        chains["PluginDirs"] = json!([settings.bin_dir]);
        chains["PluginConfDir"] = json!(self.conf_dir);
        let info = [
            ("cniconfig".to_owned(), chains.to_string()),
            ("config".to_owned(), settings.cdi.to_string()),
        ];
        Ok(Response::new(StatusResponse { info: info.into() }))
    }
}

/// A node's folders, its runtime, and the agent's chain on it.
struct Node {
    root: tempfile::TempDir,
    chain: Chain,
    settings: Arc<Mutex<Settings>>,
}

impl Node {
    /// The binary folder is a symlink, as k3s and MicroK8s have it.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for folder in ["opt/cni/bin-1", "net.d", "cdi"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        symlink("bin-1", path("opt/cni/bin")).unwrap();
        let node = ChainPaths {
            source: path("source"),
            bin_dir: path("opt/cni/bin"),
            bin_mount: path("opt/cni"),
            conf_dir: path("net.d"),
            conf_mount: path("net.d"),
            cdi_dir: path("cdi"),
            cdi_link: path("run-cdi"),
            cri_socket: path("cri.sock"),
        };
        fs::write(
            &node.source,
            "#!/bin/sh\ncat >/dev/null\necho '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"0.3.1\",\"1.0.0\"]}'\n",
        )
        .unwrap();
        fs::set_permissions(&node.source, fs::Permissions::from_mode(0o755)).unwrap();
        let settings = Arc::new(Mutex::new(Settings {
            bin_dir: node.bin_dir.clone(),
            version: "1.0.0".to_owned(),
            cdi: json!({"enableCDI": true, "cdiSpecDirs": [node.cdi_dir]}),
        }));
        let runtime = Runtime {
            conf_dir: node.conf_dir.clone(),
            settings: settings.clone(),
        };
        let listener = UnixListener::bind(&node.cri_socket).unwrap();
        tokio::spawn(
            Server::builder()
                .add_service(RuntimeServiceServer::new(runtime))
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        let node = Self {
            chain: Chain::new(node),
            root,
            settings,
        };
        node.conflist("1.0.0");
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn conflist(&self, version: &str) {
        let text = json!({"cniVersion": version, "name": "pod", "plugins": [{"type": "ptp"}]});
        fs::write(self.path("net.d/10-pod.conflist"), text.to_string()).unwrap();
        version.clone_into(&mut self.settings.lock().unwrap().version);
    }

    fn has_entry(&self) -> bool {
        self.path("net.d/pod/99-railhead.conf").is_file()
    }
}

#[tokio::test]
async fn a_list_of_a_version_that_the_binary_does_not_speak_gets_no_entry_and_one_that_it_has_is_taken_out() {
    let mut node = Node::new();
    node.conflist("0.3.0");
    let refused = node.chain.ensure(true).await.chain;
    assert_eq!((refused.holds, refused.reason.name()), (false, "VersionNotSpoken"));
    assert!(
        refused.message.contains("0.3.0") && refused.message.contains("0.3.1, 1.0.0"),
        "{}",
        refused.message
    );
    assert!(!node.has_entry(), "every pod of the node would fail");
    node.conflist("0.3.1");
    let loaded = node.chain.ensure(true).await.chain;
    assert!(loaded.holds && node.has_entry(), "{loaded:?}");
    // The cluster network is replaced under a chain that works.
    node.conflist("0.3.0");
    assert!(!node.chain.ensure(true).await.chain.holds);
    assert!(!node.has_entry());
}

#[tokio::test]
async fn a_binary_folder_that_is_a_symlink_that_moves_gets_the_binary_again_and_says_so() {
    let mut node = Node::new();
    assert_eq!(node.chain.ensure(true).await.chain.reason, "Loaded");
    fs::create_dir(node.path("opt/cni/bin-2")).unwrap();
    fs::remove_file(node.path("opt/cni/bin")).unwrap();
    symlink("bin-2", node.path("opt/cni/bin")).unwrap();
    let look = node.chain.ensure(true).await;
    assert!(node.path("opt/cni/bin-2/railhead").is_file());
    let (reason, what) = look.news.unwrap();
    assert_eq!(reason, "ChainPutBack");
    assert!(what.contains("bin-2"), "{what}");
    assert_eq!((look.chain.holds, look.chain.reason.name()), (true, "PutBack"));
    assert_eq!(node.chain.ensure(true).await.news, None, "said once");
}

#[tokio::test]
async fn a_binary_folder_out_of_reach_takes_the_entry_out_of_the_chain() {
    let mut node = Node::new();
    assert!(node.chain.ensure(true).await.chain.holds);
    fs::remove_file(node.path("opt/cni/bin")).unwrap();
    symlink("/var/lib/rancher/k3s/data/2b/bin", node.path("opt/cni/bin")).unwrap();
    let look = node.chain.ensure(true).await;
    assert_eq!((look.chain.holds, look.chain.reason.name()), (false, "OtherFolder"));
    assert!(
        look.chain.message.contains("/var/lib/rancher/k3s/data/2b/bin"),
        "{}",
        look.chain.message
    );
    assert!(!node.has_entry());
    assert_eq!(look.news.unwrap().0, "ChainWithdrawn");
    assert_eq!(node.chain.ensure(true).await.news, None, "said once");
    fs::remove_file(node.path("opt/cni/bin")).unwrap();
    symlink("bin-1", node.path("opt/cni/bin")).unwrap();
    assert!(node.chain.ensure(true).await.chain.holds);
    assert!(node.has_entry());
}

#[tokio::test]
async fn a_runtime_that_looks_for_binaries_elsewhere_gets_no_entry() {
    let mut node = Node::new();
    node.settings.lock().unwrap().bin_dir = "/usr/libexec/cni".into();
    let refused = node.chain.ensure(true).await.chain;
    assert_eq!((refused.holds, refused.reason.name()), (false, "OtherFolder"));
    assert!(refused.message.contains("/usr/libexec/cni"), "{}", refused.message);
    assert!(!node.has_entry());
}

#[tokio::test]
async fn a_binary_that_the_kernel_does_not_start_gets_no_entry() {
    let mut node = Node::new();
    fs::write(node.path("source"), "not a program").unwrap();
    let refused = node.chain.ensure(true).await.chain;
    assert_eq!((refused.holds, refused.reason.name()), (false, "BinaryNotUsable"));
    assert!(!node.has_entry());
}

#[tokio::test]
async fn cdi_specs_that_the_runtime_does_not_read_are_a_condition_of_their_own() {
    let mut node = Node::new();
    assert!(node.chain.ensure(true).await.cdi.holds);
    node.chain = Chain::new(node.chain.paths.clone());
    node.settings.lock().unwrap().cdi = json!({"enableCDI": true, "cdiSpecDirs": ["/etc/cdi", "/var/cdi/dynamic"]});
    let look = node.chain.ensure(true).await;
    assert!(look.chain.holds);
    assert_eq!((look.cdi.holds, look.cdi.reason.name()), (false, "OtherFolder"));
    assert!(look.cdi.message.contains("/var/cdi/dynamic"), "{}", look.cdi.message);
}

#[tokio::test]
async fn cdi_specs_to_which_no_link_can_be_made_are_said_with_what_is_in_the_way() {
    let mut node = Node::new();
    fs::write(node.path("run-cdi"), "").unwrap();
    fs::create_dir(node.path("run-cdi.new")).unwrap();
    let cdi = node.chain.ensure(true).await.cdi;
    assert_eq!((cdi.holds, cdi.reason.name()), (false, "NoLink"));
    assert!(
        cdi.message.contains("run-cdi cannot be made a link to"),
        "{}",
        cdi.message
    );
}

#[tokio::test]
async fn a_folder_of_configurations_behind_a_symlink_that_moves_gets_the_entry_again() {
    let mut node = Node::new();
    // As MicroK8s has it: `current` is a link.
    fs::create_dir_all(node.path("snap/1")).unwrap();
    fs::rename(node.path("net.d"), node.path("snap/1/net.d")).unwrap();
    symlink("1", node.path("snap/current")).unwrap();
    symlink("snap/current/net.d", node.path("net.d")).unwrap();
    node.chain.paths.conf_mount = node.root.path().to_owned();
    assert!(node.chain.ensure(true).await.chain.holds);
    fs::create_dir_all(node.path("snap/2/net.d")).unwrap();
    fs::copy(
        node.path("snap/1/net.d/10-pod.conflist"),
        node.path("snap/2/net.d/10-pod.conflist"),
    )
    .unwrap();
    fs::remove_file(node.path("snap/current")).unwrap();
    symlink("2", node.path("snap/current")).unwrap();
    assert!(!node.has_entry());
    assert!(node.chain.ensure(true).await.chain.holds);
    assert!(node.path("snap/2/net.d/pod/99-railhead.conf").is_file());
    fs::remove_file(node.path("snap/current")).unwrap();
    symlink("/var/snap/microk8s/7", node.path("snap/current")).unwrap();
    let refused = node.chain.ensure(true).await.chain;
    assert_eq!((refused.holds, refused.reason.name()), (false, "OtherFolder"));
    assert!(refused.message.contains("cniConfigMount"), "{}", refused.message);
}
