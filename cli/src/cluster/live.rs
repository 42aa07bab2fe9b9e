//! The API server: all kinds at once, each in pages of which only what is used is kept.
//!
//! No `resourceVersion=0`: with it the API server ignores the page size, and 16,384 attachments would come in one answer. Without it
//! the pages come from the API server's cache all the same (Kubernetes 1.34), and are as of now.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{
    api::{
        core::v1 as core,
        resource::v1::{ResourceClaim, ResourceClaimTemplate, ResourceSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use kube::{
    Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
    core::Request,
};
use railhead_crds::{
    Fabric, FabricLedger, GROUP, NetworkAttachment, NetworkQuota, NetworkSlice, NodeNetwork, QosClass, TrainingNetwork,
};
use railhead_service::{chain, client::with_config, is_transient};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::{
    Cluster, From, Kind, Node, Pod, ReadError, Unread, Wanted,
    kept::Kept,
    problem::{Right, lacks},
};

/// Objects in a page: large enough that 16,384 attachments take few requests, small enough that a page of Nodes is a few megabytes.
const PAGE: u32 = 500;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// How often a server that is too busy is asked again, and after which pause.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);

/// Reads what is wanted.
pub(super) async fn read(from: &From, wanted: Wanted) -> Result<Cluster, ReadError> {
    read_from(config(from).await?, from, wanted).await
}

async fn read_from(config: Config, from: &From, wanted: Wanted) -> Result<Cluster, ReadError> {
    let server = config.cluster_url.to_string();
    let namespace = (!from.all_namespaces).then(|| {
        let named = from.namespace.clone();
        named.unwrap_or_else(|| config.default_namespace.clone())
    });
    let client = with_config(config, ANSWER).map_err(|error| ReadError::NoConfig { why: chain(&error) })?;
    let read_at = Timestamp::now();
    let mut reader = Reader {
        client,
        scope: namespace.clone().filter(|_| !wanted.is_cluster_wide()),
        wanted,
        tasks: JoinSet::new(),
    };
    reader.start_all();
    let mut cluster = reader.gather(&server).await?;
    cluster.read_at = read_at;
    cluster.namespace = namespace;
    Ok(cluster)
}

/// The way to the API server, for what is written.
pub(super) async fn connect(from: &From) -> Result<Client, ReadError> {
    let config = config(from).await?;
    with_config(config, ANSWER).map_err(|error| ReadError::NoConfig { why: chain(&error) })
}

async fn config(from: &From) -> Result<Config, ReadError> {
    let no_config = |error: &dyn std::error::Error| ReadError::NoConfig { why: chain(error) };
    let options = KubeConfigOptions {
        context: from.context.clone(),
        ..KubeConfigOptions::default()
    };
    if let Some(path) = &from.kubeconfig {
        let kubeconfig = Kubeconfig::read_from(path).map_err(|error| no_config(&error))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        return config.map_err(|error| no_config(&error));
    }
    match Config::from_kubeconfig(&options).await {
        Ok(config) => Ok(config),
        Err(error) if from.context.is_some() => Err(no_config(&error)),
        // In a pod there is none.
        Err(error) => Config::incluster().map_err(|_| no_config(&error)),
    }
}

/// Puts what a task has read where it belongs.
type Put = Box<dyn FnOnce(&mut Cluster) + Send>;

/// What a task found.
struct Answer {
    kind: Kind,
    /// Of which group it is, and how it is called.
    resource: String,
    is_ours: bool,
    namespace: Option<String>,
    verb: &'static str,
    found: Result<Put, kube::Error>,
}

struct Reader {
    client: Client,
    /// The namespace that is read; none for all of them.
    scope: Option<String>,
    wanted: Wanted,
    tasks: JoinSet<Answer>,
}

impl Reader {
    fn start_all(&mut self) {
        self.start::<Fabric>(false);
        self.start::<FabricLedger>(false);
        self.start::<QosClass>(false);
        self.start::<NetworkQuota>(true);
        self.start::<TrainingNetwork>(true);
        self.start::<NetworkSlice>(true);
        self.start::<NetworkAttachment>(true);
        self.start::<NodeNetwork>(false);
        self.start::<Node>(false);
        self.start::<core::Namespace>(false);
        self.start::<Pod>(true);
        self.start::<ResourceClaim>(true);
        self.start::<ResourceClaimTemplate>(true);
        self.start::<ResourceSlice>(false);
        self.start::<core::Event>(true);
        self.start_pod();
    }

    fn start<K: Kept>(&mut self, namespaced: bool) {
        if !self.wanted.has(K::KIND) {
            return;
        }
        for asked in self.wanted.selections(K::KIND) {
            let namespace = self.scope.clone().filter(|_| namespaced);
            let (client, wanted) = (self.client.clone(), self.wanted.clone());
            self.tasks.spawn(async move {
                let found = list::<K>(&client, namespace.as_deref(), asked, &wanted).await;
                Answer {
                    found: found.map(|Listed { kept, unread }| -> Put {
                        Box::new(move |cluster| {
                            K::list(cluster).extend(kept);
                            cluster.unread.extend(unread);
                        })
                    }),
                    ..Answer::of::<K>("list", namespace)
                }
            });
        }
    }

    /// The pod that was asked for by name, which the label need not be on.
    fn start_pod(&mut self) {
        let (Some(name), Some(namespace)) = (self.wanted.named_pod(), &self.scope) else {
            return;
        };
        let (name, namespace) = (name.to_owned(), namespace.clone());
        let (client, wanted) = (self.client.clone(), self.wanted.clone());
        self.tasks.spawn(async move {
            let api: kube::Api<Pod> = kube::Api::namespaced(client, &namespace);
            let found = api.get_opt(&name).await;
            Answer {
                found: found.map(|pod| -> Put {
                    Box::new(move |cluster| {
                        let pod = pod.and_then(|pod| pod.keep(&wanted));
                        let is_new =
                            |pod: &Pod| cluster.pods.iter().all(|other| other.metadata.uid != pod.metadata.uid);
                        if let Some(pod) = pod.filter(is_new) {
                            cluster.pods.push(pod);
                        }
                    })
                }),
                ..Answer::of::<Pod>("get", Some(namespace))
            }
        });
    }

    /// Waits for all answers. What a report cannot do without and did not get is told at once, all of it.
    async fn gather(mut self, server: &str) -> Result<Cluster, ReadError> {
        let mut cluster = Cluster::default();
        let (mut late, mut forbidden, mut lacking) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut has_ours = false;
        while let Some(answer) = self.tasks.join_next().await {
            let answer = answer.map_err(|error| ReadError::Runtime(error.into()))?;
            let can_do_without = self.wanted.can_do_without(answer.kind);
            let mut unread = |why: String| {
                cluster.unread.push(Unread { kind: answer.kind, why });
            };
            match answer.found {
                Ok(put) => {
                    has_ours |= answer.is_ours;
                    late.push(put);
                }
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    has_ours |= answer.is_ours;
                    let right = Right {
                        verb: answer.verb,
                        resource: answer.resource,
                        namespace: answer.namespace,
                    };
                    if can_do_without {
                        unread(format!("no right to {right}"));
                    } else {
                        forbidden.insert(right);
                    }
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    if can_do_without && !(answer.is_ours) {
                        unread(format!("the cluster has no {}", answer.resource));
                    } else if can_do_without {
                        unread(lacks(std::slice::from_ref(&answer.resource)));
                        lacking.insert((true, answer.resource));
                    } else {
                        lacking.insert((false, answer.resource));
                    }
                }
                Err(kube::Error::Api(status)) if status.code == 401 => {
                    return Err(ReadError::Unknown {
                        server: server.to_owned(),
                        why: status.message.clone(),
                    });
                }
                Err(error @ kube::Error::Api(_)) => {
                    return Err(ReadError::Refused {
                        what: answer.resource,
                        why: chain(&error),
                    });
                }
                Err(error) => {
                    return Err(ReadError::NotReached {
                        server: server.to_owned(),
                        why: chain(&error),
                    });
                }
            }
        }
        if !has_ours && let Some((_, kind)) = lacking.first() {
            return Err(ReadError::NotInstalled { kind: kind.clone() });
        }
        let kinds: Vec<String> = lacking
            .into_iter()
            .filter_map(|(can_do_without, kind)| (!can_do_without).then_some(kind))
            .collect();
        if !kinds.is_empty() {
            return Err(ReadError::Lacks { kinds });
        }
        if !forbidden.is_empty() {
            return Err(ReadError::Forbidden {
                rights: forbidden.into_iter().collect(),
            });
        }
        for put in late {
            put(&mut cluster);
        }
        Ok(cluster)
    }
}

impl Answer {
    fn of<K: Kept>(verb: &'static str, namespace: Option<String>) -> Self {
        let group = K::group(&());
        let plural = K::plural(&());
        Self {
            kind: K::KIND,
            resource: if group.is_empty() {
                plural.into_owned()
            } else {
                format!("{plural}.{group}")
            },
            is_ours: group == GROUP,
            namespace,
            verb,
            found: Ok(Box::new(|_| ())),
        }
    }
}

/// What is kept of a list.
struct Listed<K: Kept> {
    kept: Vec<K::As>,
    unread: Vec<Unread>,
}

/// A page as it comes: its objects are read one by one, so that one that this release does not understand harms no other.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PageMeta {
    r#continue: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    metadata: ObjectMeta,
}

async fn list<K: Kept>(
    client: &Client,
    namespace: Option<&str>,
    all: ListParams,
    wanted: &Wanted,
) -> Result<Listed<K>, kube::Error> {
    let mut asked = all.clone().limit(PAGE);
    let mut is_anew = false;
    let mut listed = Listed {
        kept: Vec::new(),
        unread: Vec::new(),
    };
    loop {
        let text = match page::<K>(client, namespace, &asked).await {
            // The pages are of one moment, which the API server remembers for some minutes: anew, and if that takes too long as
            // well, at once.
            Err(kube::Error::Api(status)) if status.code == 410 && asked.continue_token.is_some() => {
                asked = if is_anew { all.clone() } else { all.clone().limit(PAGE) };
                is_anew = true;
                listed.kept.clear();
                listed.unread.clear();
                continue;
            }
            answer => answer?,
        };
        let page: Page = serde_json::from_str(&text).map_err(kube::Error::SerdeError)?;
        for item in page.items {
            match serde_json::from_str::<K>(item.get()) {
                Ok(object) => listed.kept.extend(object.keep(wanted)),
                Err(error) => listed.unread.push(not_understood::<K>(item, &error)),
            }
        }
        match page.metadata.r#continue.filter(|token| !token.is_empty()) {
            Some(token) => asked.continue_token = Some(token),
            None => return Ok(listed),
        }
    }
}

async fn page<K: Kept>(client: &Client, namespace: Option<&str>, asked: &ListParams) -> Result<String, kube::Error> {
    let mut tries = 1;
    loop {
        let request = Request::new(K::url_path(&(), namespace)).list(asked);
        let request = request.map_err(kube::Error::BuildRequest)?;
        match client.request_text(request).await {
            Err(error @ kube::Error::Api(_)) if is_transient(&error) && tries < TRIES => {
                tokio::time::sleep(PAUSE * tries).await;
                tries += 1;
            }
            answer => return answer,
        }
    }
}

fn not_understood<K: Kept>(item: &RawValue, error: &serde_json::Error) -> Unread {
    let named: Option<Named> = serde_json::from_str(item.get()).ok();
    let metadata = named.map(|named| named.metadata).unwrap_or_default();
    super::kept::not_understood::<K>(&metadata, error)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::fixtures;

    /// Reads with an API server that answers `GET <path and query>` so.
    async fn ask(wanted: Wanted, answer: fn(&str) -> (u16, Value)) -> Result<Cluster, ReadError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = vec![0; 8192];
                let read = stream.read(&mut buffer).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
                let (code, body) = answer(request.split_whitespace().nth(1).unwrap_or_default());
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {code} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        let mut config = Config::new(format!("http://{address}").parse().unwrap());
        config.default_namespace = "team-a".to_owned();
        read_from(config, &From::default(), wanted).await
    }

    fn failure(code: u16) -> (u16, Value) {
        let status = json!({"kind": "Status", "status": "Failure", "code": code, "message": "m", "reason": "r"});
        (code, status)
    }

    fn list(items: &[Value], more: &str) -> (u16, Value) {
        (200, json!({"metadata": {"continue": more}, "items": items}))
    }

    #[tokio::test]
    async fn pages_are_read_to_the_end_and_what_is_not_understood_harms_nothing_else() {
        let cluster = ask(Wanted::all_of([Kind::Networks]), |path| {
            assert!(
                path.starts_with("/apis/railhead.dev/v1alpha1/namespaces/team-a/trainingnetworks?")
                    && path.contains("limit=500")
            );
            if path.contains("continue=next") {
                return list(&[fixtures::network("bloom", 2)], "");
            }
            let odd = json!({"metadata": {"name": "odd", "namespace": "team-a"}, "spec": {"pods": "x"}});
            list(&[fixtures::network("llama", 2), odd], "next")
        });
        let cluster = cluster.await.unwrap();
        assert_eq!(cluster.networks.len(), 2);
        assert_eq!(cluster.unread.len(), 1);
        let why = &cluster.unread[0].why;
        assert!(
            why.starts_with("TrainingNetwork odd in namespace team-a is not understood, and left out ("),
            "{why}"
        );
        assert!(cluster.networks[0].metadata.managed_fields.is_none());
    }

    #[tokio::test]
    async fn a_list_that_took_too_long_is_read_anew_in_pages_and_then_as_a_whole() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static PAGES: AtomicUsize = AtomicUsize::new(0);
        let cluster = ask(Wanted::all_of([Kind::Networks]), |path| match () {
            () if path.contains("continue=old") => failure(410),
            () if path.contains("limit=") => {
                PAGES.fetch_add(1, Ordering::Relaxed);
                list(&[fixtures::network("llama", 2)], "old")
            }
            () => list(&[fixtures::network("llama", 2), fixtures::network("bloom", 2)], ""),
        });
        assert_eq!(cluster.await.unwrap().networks.len(), 2);
        assert_eq!(PAGES.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn every_right_that_is_missing_is_named_and_what_can_be_done_without_is_left_out() {
        let wanted = Wanted::all_of([Kind::Networks, Kind::Fabrics]).and_if_allowed([Kind::Nodes]);
        let error = ask(wanted, |_| failure(403)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no right to list fabrics.railhead.dev in the whole cluster and list trainingnetworks.railhead.dev in namespace team-a: \
             ask for the ClusterRole railhead-plugin"
        );
        assert_eq!(error.exit(), crate::exit::Exit::CannotTell);
        let wanted = Wanted::all_of([Kind::Networks]).and_if_allowed([Kind::Nodes]);
        let cluster = ask(wanted, |path| {
            if path.contains("nodes") {
                failure(403)
            } else {
                list(&[], "")
            }
        })
        .await
        .unwrap();
        assert_eq!(cluster.unread[0].why, "no right to list nodes in the whole cluster");
    }

    #[tokio::test]
    async fn half_an_installation_is_told_from_none_and_both_in_a_sentence() {
        let wanted = || Wanted::all_of([Kind::Networks, Kind::Fabrics]).and_if_allowed([Kind::Quotas]);
        let none = ask(wanted(), |_| failure(404)).await.unwrap_err().to_string();
        assert!(none.starts_with("Railhead is not installed on this cluster"), "{none}");
        let half = ask(wanted(), |path| {
            if path.contains("fabrics") {
                failure(404)
            } else {
                list(&[], "")
            }
        });
        let half = half.await.unwrap_err().to_string();
        assert!(
            half.contains("it has no fabrics.railhead.dev: kubectl apply --server-side"),
            "{half}"
        );
        let older = ask(wanted(), |path| {
            if path.contains("quotas") {
                failure(404)
            } else {
                list(&[], "")
            }
        });
        let older = older.await.unwrap();
        assert!(
            older.unread[0].why.contains("it has no networkquotas.railhead.dev"),
            "{:?}",
            older.unread
        );
    }

    #[tokio::test]
    async fn who_is_not_known_is_told_to_log_in() {
        let error = ask(Wanted::all_of([Kind::Networks]), |_| failure(401))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("does not know who you are"), "{error}");
    }
}
