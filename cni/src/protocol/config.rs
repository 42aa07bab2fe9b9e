//! The network configuration on standard input.

use std::io::Read;

use serde::Deserialize;
use serde_json::Value;

use super::{CniError, Code, Verb, environment::shorten};

/// The protocol versions that are spoken: all that there are. The version is that of the whole list, so it is the cluster's
/// choice and not ours, and CRI-O loads a list only if each of its plugins names the list's version here.
pub const SUPPORTED_VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The version of answers to calls that named none.
pub(super) const NEWEST_VERSION: &str = "1.1.0";
/// More than a pod can bring about, so that no pod is kept from starting by what it is annotated with: annotations may have
/// 256 KiB (`TotalAnnotationSizeLimitB`, kubernetes/apimachinery `pkg/api/validation/objectmeta.go`), each byte of which JSON
/// may write as six (`\u0001`); the rest of a configuration and its previous result take a few KiB.
const STDIN_LIMIT: u64 = 16 << 20;
/// The capability under which containerd and CRI-O hand over the pod's annotations.
const POD_ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// What the admission policy writes on a pod that asks for a network.
const ATTACH: &str = "railhead.dev/attach";

/// The parts of a configuration that matter here.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) version: String,
    pub(crate) name: String,
    pub(crate) previous_result: Option<Value>,
    /// The network that the pod asks for, from its annotation.
    pub(crate) attach: Option<String>,
    /// GC: the sandboxes that still exist. `None` when the key is absent, which is not an empty list.
    pub(crate) valid_attachments: Option<Vec<ValidAttachment>>,
}

/// A sandbox that still exists.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ValidAttachment {
    #[serde(rename = "containerID")]
    pub(crate) container_id: String,
    #[serde(rename = "ifname")]
    pub(crate) if_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    /// The specification: an absent version is 0.1.0.
    #[serde(default = "oldest_version")]
    cni_version: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    prev_result: Option<Value>,
    #[serde(default)]
    runtime_config: Option<Value>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<ValidAttachment>>,
}

fn oldest_version() -> String {
    "0.1.0".to_owned()
}

/// Reads standard input up to the limit, and no byte more.
pub(super) fn read_stdin(stdin: &mut impl Read) -> Result<Vec<u8>, CniError> {
    let mut bytes = Vec::new();
    stdin.take(STDIN_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| {
        CniError::new(
            Code::Io,
            format!("read the network configuration from standard input: {error}"),
        )
    })?;
    if bytes.len() as u64 > STDIN_LIMIT {
        return Err(CniError::new(
            Code::Decode,
            format!(
                "the network configuration on standard input is longer than {STDIN_LIMIT} bytes; nothing was changed, look for what the runtime or an earlier plugin of the chain sends"
            ),
        ));
    }
    Ok(bytes)
}

impl Config {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, CniError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(CniError::new(
                Code::Decode,
                "standard input is empty; a runtime sends the network configuration as JSON there",
            ));
        }
        let invalid = |error: &dyn std::fmt::Display| {
            CniError::new(
                Code::Decode,
                format!("the network configuration on standard input is not valid: {error}"),
            )
        };
        // serde would take a list for a struct, field by field.
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return Err(invalid(&"it is a list and not an object"));
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| invalid(&railhead_plan::parser_says(&error)))?;
        let attach = raw
            .runtime_config
            .as_ref()
            .and_then(|config| config.get(POD_ANNOTATIONS)?.get(ATTACH)?.as_str())
            .map(str::to_owned);
        Ok(Self {
            version: raw.cni_version,
            name: raw.name,
            previous_result: raw.prev_result,
            attach,
            valid_attachments: raw.valid_attachments,
        })
    }

    /// Whether the verb can be carried out under this configuration.
    ///
    /// The version is not looked at but for GC: a pod without rails gets back what came in, whatever version of the
    /// protocol that is, and what DEL and CHECK need is not in the configuration. Whether a result can be extended is
    /// asked when a pod has a plan.
    pub(super) fn check(&self, verb: Verb) -> Result<(), CniError> {
        // It frees what a list of the protocol does not name, so it must be sure how to read that list.
        if verb == Verb::Gc && self.version != "1.1.0" {
            return Err(CniError::new(
                Code::IncompatibleVersion,
                format!(
                    "CNI version {:?} has no GC that is known here; nothing was freed, call it with cniVersion 1.1.0",
                    shorten(&self.version)
                ),
            ));
        }
        if self.name.is_empty() {
            return Err(CniError::new(
                Code::InvalidConfig,
                "the network configuration has no name; give the list in the runtime's conf dir a \"name\"",
            ));
        }
        if self.previous_result.as_ref().is_some_and(|result| !result.is_object()) {
            return Err(CniError::new(
                Code::Decode,
                "prevResult is not a JSON object; look at the plugin before this one in the chain",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn standard_input_is_read_up_to_the_limit_and_no_further() {
        let mut endless = std::io::repeat(b' ');
        let error = read_stdin(&mut endless).unwrap_err();
        assert_eq!(error.code, Code::Decode);
        assert!(error.message.contains("16777216"), "{}", error.message);
    }

    #[test]
    fn an_absent_list_of_attachments_is_not_an_empty_one() {
        let parse = |text: &str| Config::parse(text.as_bytes()).unwrap().valid_attachments;
        assert_eq!(parse(r#"{"name":"n"}"#), None);
        assert_eq!(parse(r#"{"name":"n","cni.dev/valid-attachments":null}"#), None);
        assert_eq!(parse(r#"{"name":"n","cni.dev/valid-attachments":[]}"#), Some(vec![]));
    }

    #[test]
    fn the_network_is_taken_from_the_pods_annotation() {
        let attach = |config: &str| Config::parse(config.as_bytes()).unwrap().attach;
        let annotated = r#"{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"railhead.dev/attach":"train"}}}"#;
        assert_eq!(attach(annotated).as_deref(), Some("train"));
        for other in [
            "{}",
            r#"{"runtimeConfig":null}"#,
            r#"{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":null}}"#,
            r#"{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"railhead.dev/attach":7}}}"#,
        ] {
            assert_eq!(attach(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_the_parser_panic(text in "[\\[\\]{}:,\"a-z0-9 .]{0,200}") {
            if let Ok(config) = Config::parse(text.as_bytes()) {
                let _ = config.check(Verb::Add);
            }
        }
    }
}
