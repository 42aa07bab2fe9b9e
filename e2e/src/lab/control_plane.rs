//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler, as processes in the lab's namespace.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Lab;
use super::namespace::{Daemon, HOST_ADDRESS, wait_while_alive};
use super::pki::{Authority, Identity, kubeconfig};
use super::progress::say;

const LIMIT: Duration = Duration::from_mins(1);
const SERVICES: &str = "10.96.0.0/16";
/// First address of the service range: the `kubernetes` Service, through which pods reach the API server.
const KUBERNETES_SERVICE: &str = "10.96.0.1";

/// Address of the API server.
pub(super) fn server() -> String {
    format!("https://{HOST_ADDRESS}:6443")
}

/// Issues what the control plane needs; the authority stays at hand for the nodes.
pub(super) fn credentials(lab: &Lab) -> Result<Authority> {
    let authority = Authority::create(&lab.pki())?;
    authority.service_account_keys()?;
    let serves = [
        HOST_ADDRESS,
        KUBERNETES_SERVICE,
        "127.0.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    authority.issue(&Identity {
        file: "apiserver",
        user: "kube-apiserver",
        serves: serves.map(str::to_owned).to_vec(),
        ..Identity::default()
    })?;
    for (file, user, group) in [
        ("admin", "lab-admin", Some("system:masters")),
        (
            "kubelet-client",
            "kube-apiserver-kubelet-client",
            Some("system:masters"),
        ),
        ("controller-manager", "system:kube-controller-manager", None),
        ("scheduler", "system:kube-scheduler", None),
    ] {
        authority.issue(&Identity {
            file,
            user,
            group,
            ..Identity::default()
        })?;
    }
    for (file, identity) in [
        ("kubeconfig", "admin"),
        ("controller-manager.kubeconfig", "controller-manager"),
        ("scheduler.kubeconfig", "scheduler"),
    ] {
        fs::write(lab.state().join(file), kubeconfig(&server(), &lab.pki(), identity))?;
    }
    Ok(authority)
}

/// An API server that does not answer, until this value goes: its process is stopped, and the kernel keeps its connections open.
#[derive(Debug)]
pub struct SilentApiServer {
    process: Pid,
}

impl Drop for SilentApiServer {
    fn drop(&mut self) {
        // Where it has ended meanwhile, that is found out by whoever asks it next.
        kill(self.process, Signal::SIGCONT).ok();
    }
}

impl Lab {
    /// Makes the API server fall silent without a word, as behind a cut line.
    pub fn silence_api_server(&self) -> Result<SilentApiServer> {
        let is_server = |pid: &Pid| {
            // The kernel keeps 15 characters of a program's name.
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "kube-apiserver")
        };
        let process = self.namespace().processes()?.into_iter().find(is_server);
        let process = process.context("no kube-apiserver runs in the lab")?;
        kill(process, Signal::SIGSTOP).context("cannot stop the API server")?;
        say("the API server is silent");
        Ok(SilentApiServer { process })
    }
}

/// Starts the four programs and waits until the API server answers and the controllers work.
pub(super) fn start(lab: &Lab) -> Result<Vec<Daemon>> {
    let pki = |file: &str| lab.pki().join(file).display().to_string();
    let state = |file: &str| lab.state().join(file).display().to_string();
    let kubernetes = &lab.parts().kubernetes;
    let daemon = |name: &str, folder: &Path, flags: &[(&str, String)]| {
        let arguments: Vec<String> = flags.iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
        lab.namespace()
            .daemon(name, &folder.join(name), &arguments, &lab.log(name))
    };
    let etcd = daemon(
        "etcd",
        &lab.parts().etcd,
        &[
            ("data-dir", state("etcd")),
            ("listen-client-urls", "http://127.0.0.1:2379".into()),
            ("advertise-client-urls", "http://127.0.0.1:2379".into()),
            ("listen-peer-urls", "http://127.0.0.1:2380".into()),
            // The data lives as long as the lab: nothing to lose in a power cut.
            ("unsafe-no-fsync", "true".into()),
            ("log-level", "warn".into()),
        ],
    )?;
    let apiserver = daemon(
        "kube-apiserver",
        kubernetes,
        &[
            ("etcd-servers", "http://127.0.0.1:2379".into()),
            ("advertise-address", HOST_ADDRESS.into()),
            ("secure-port", "6443".into()),
            ("tls-cert-file", pki("apiserver.crt")),
            ("tls-private-key-file", pki("apiserver.key")),
            ("client-ca-file", pki("ca.crt")),
            ("service-cluster-ip-range", SERVICES.into()),
            ("service-account-issuer", "https://kubernetes.default.svc".into()),
            ("service-account-key-file", pki("service-account.pub")),
            ("service-account-signing-key-file", pki("service-account.key")),
            ("authorization-mode", "Node,RBAC".into()),
            ("enable-admission-plugins", "NodeRestriction".into()),
            ("kubelet-certificate-authority", pki("ca.crt")),
            ("kubelet-client-certificate", pki("kubelet-client.crt")),
            ("kubelet-client-key", pki("kubelet-client.key")),
            ("kubelet-preferred-address-types", "InternalIP".into()),
            ("allow-privileged", "true".into()),
        ],
    )?;
    let mut daemons = vec![etcd, apiserver];
    wait_while_alive(
        &mut daemons,
        "the API server becomes ready",
        LIMIT,
        Duration::from_millis(100),
        || lab.kubectl(&["get", "--raw=/readyz"])?.ok().map(|_| ()),
    )?;
    daemons.push(daemon(
        "kube-controller-manager",
        kubernetes,
        &[
            ("kubeconfig", state("controller-manager.kubeconfig")),
            ("service-account-private-key-file", pki("service-account.key")),
            ("root-ca-file", pki("ca.crt")),
            ("use-service-account-credentials", "true".into()),
            ("service-cluster-ip-range", SERVICES.into()),
            ("leader-elect", "false".into()),
            ("kube-api-qps", "200".into()),
            ("kube-api-burst", "400".into()),
        ],
    )?);
    daemons.push(daemon(
        "kube-scheduler",
        kubernetes,
        &[
            ("kubeconfig", state("scheduler.kubeconfig")),
            ("leader-elect", "false".into()),
            ("kube-api-qps", "200".into()),
            ("kube-api-burst", "400".into()),
        ],
    )?);
    wait_while_alive(
        &mut daemons,
        "the controllers make the default service account",
        LIMIT,
        Duration::from_millis(100),
        || lab.kubectl(&["get", "serviceaccount", "default"])?.ok().map(|_| ()),
    )?;
    say(format!("control plane ready: {}", server()));
    Ok(daemons)
}
