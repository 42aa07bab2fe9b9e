//! The environment variables of a call.

use railhead_host::InterfaceName;

use super::{CniError, Code};

/// `CNI_*` variables as they were found. Empty ones count as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: Option<String>,
    /// `CNI_CONTAINERID`.
    pub container_id: Option<String>,
    /// `CNI_NETNS`.
    pub netns: Option<String>,
    /// `CNI_IFNAME`.
    pub if_name: Option<String>,
    /// `CNI_ARGS`.
    pub arguments: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

impl Environment {
    /// Reads the variables of this process.
    pub fn of_process() -> Self {
        let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            command: read("CNI_COMMAND"),
            container_id: read("CNI_CONTAINERID"),
            netns: read("CNI_NETNS"),
            if_name: read("CNI_IFNAME"),
            arguments: read("CNI_ARGS"),
        }
    }

    /// The verb, once everything that it needs is there and well-formed.
    ///
    /// DEL needs no more than the container: the runtime's other variables may be gone with the sandbox, and the agent
    /// calls DEL for sandboxes that the runtime forgot. `CNI_PATH` is for plugins that call others.
    pub(super) fn verb(&self, command: &str) -> Result<Verb, CniError> {
        let (verb, required): (Verb, &[(&str, &Option<String>)]) = match command {
            "ADD" | "CHECK" => (
                if command == "ADD" { Verb::Add } else { Verb::Check },
                &[
                    ("CNI_CONTAINERID", &self.container_id),
                    ("CNI_NETNS", &self.netns),
                    ("CNI_IFNAME", &self.if_name),
                ],
            ),
            "DEL" => (Verb::Del, &[("CNI_CONTAINERID", &self.container_id)]),
            "STATUS" => (Verb::Status, &[]),
            "GC" => (Verb::Gc, &[]),
            "VERSION" => (Verb::Version, &[]),
            _ => {
                return Err(environment(format!(
                    "unknown CNI_COMMAND {:?}; known are ADD, DEL, CHECK, STATUS, GC, VERSION",
                    shorten(command)
                )));
            }
        };
        let missing: Vec<&str> = required
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| *name)
            .collect();
        if !missing.is_empty() {
            return Err(environment(format!(
                "{command} needs the environment variables {}, which are not set",
                missing.join(", ")
            )));
        }
        // What a verb does not use is nothing to it.
        let uses = |name: &str| required.iter().any(|(required, _)| *required == name);
        if let Some(id) = &self.container_id
            && uses("CNI_CONTAINERID")
            && !is_container_id(id)
        {
            return Err(environment(format!(
                "CNI_CONTAINERID {:?} is not a container id: a letter or digit, then letters, digits, '_', '.', '-'",
                shorten(id)
            )));
        }
        if let Some(name) = &self.if_name
            && uses("CNI_IFNAME")
            && let Err(error) = name.parse::<InterfaceName>()
        {
            return Err(environment(format!("CNI_IFNAME: {error}")));
        }
        Ok(verb)
    }
}

/// What `CNI_ARGS` says about the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodArguments {
    pub(crate) uid: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
}

impl PodArguments {
    /// Takes what it knows from `K=V;K=V`. Other keys belong to other plugins of the chain.
    ///
    /// The UID becomes a file name. A static pod may have any text as its UID; one that is no file name can have no plan.
    pub(crate) fn parse(text: &str) -> Self {
        let mut arguments = Self::default();
        for (key, value) in text.split(';').filter_map(|pair| pair.split_once('=')) {
            let value = Some(value.to_owned()).filter(|value| !value.is_empty());
            match key {
                "K8S_POD_UID" => arguments.uid = value.filter(|uid| is_uid(uid)),
                "K8S_POD_NAMESPACE" => arguments.namespace = value,
                "K8S_POD_NAME" => arguments.name = value,
                _ => {}
            }
        }
        arguments
    }

    /// `namespace/name`, as far as known.
    pub(crate) fn full_name(&self) -> String {
        format!(
            "{}/{}",
            shorten(self.namespace.as_deref().unwrap_or("?")),
            // As long as names of pods may be.
            self.name
                .as_deref()
                .unwrap_or("?")
                .chars()
                .take(253)
                .collect::<String>()
        )
    }
}

/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$` (containernetworking/cni, pkg/utils), and short enough for a file name.
fn is_container_id(id: &str) -> bool {
    id.len() <= 200
        && id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn is_uid(text: &str) -> bool {
    text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn environment(message: String) -> CniError {
    CniError::new(Code::InvalidEnvironment, message)
}

/// As much of a text of unknown origin as belongs in a message.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment_for(command: &str) -> Environment {
        Environment {
            command: Some(command.to_owned()),
            container_id: Some("0123abcd".to_owned()),
            netns: Some("/run/netns/x".to_owned()),
            if_name: Some("eth0".to_owned()),
            arguments: None,
        }
    }

    #[test]
    fn every_verb_is_known_and_names_what_it_misses() {
        for (command, missing) in [
            ("ADD", Some("CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME")),
            ("CHECK", Some("CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME")),
            ("DEL", Some("CNI_CONTAINERID")),
            ("STATUS", None),
            ("GC", None),
            ("VERSION", None),
        ] {
            assert!(environment_for(command).verb(command).is_ok(), "{command}");
            let bare = Environment::default().verb(command);
            match missing {
                None => assert!(bare.is_ok(), "{command}"),
                Some(missing) => {
                    let error = bare.unwrap_err();
                    assert_eq!(error.code, Code::InvalidEnvironment);
                    assert!(error.message.contains(missing), "{}", error.message);
                }
            }
        }
        let error = environment_for("add").verb("add").unwrap_err();
        assert_eq!(error.code, Code::InvalidEnvironment);
    }

    #[test]
    fn texts_that_could_leave_a_folder_are_refused() {
        for id in ["../x", ".x", "-x", "a/b", "a b", &"a".repeat(300)] {
            let mut environment = environment_for("DEL");
            environment.container_id = Some(id.to_owned());
            assert!(environment.verb("DEL").is_err(), "{id}");
        }
        for name in ["a/b", "..", "a:b", "abcdefghijklmnop"] {
            let mut environment = environment_for("ADD");
            environment.if_name = Some(name.to_owned());
            assert!(environment.verb("ADD").is_err(), "{name}");
        }
        for arguments in ["K8S_POD_UID=../../etc/passwd", "K8S_POD_UID=a/b", "K8S_POD_UID=.."] {
            assert_eq!(PodArguments::parse(arguments), PodArguments::default(), "{arguments}");
        }
    }

    #[test]
    fn the_pod_is_read_from_the_arguments_among_others() {
        let arguments = PodArguments::parse(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=ml;K8S_POD_NAME=train-0;K8S_POD_INFRA_CONTAINER_ID=1;K8S_POD_UID=6f1c-2",
        );
        assert_eq!(arguments.full_name(), "ml/train-0");
        assert_eq!(arguments.uid.as_deref(), Some("6f1c-2"));
        assert_eq!(PodArguments::parse(""), PodArguments::default());
        assert_eq!(PodArguments::parse(";;=;x"), PodArguments::default());
    }
}
