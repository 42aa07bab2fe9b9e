//! Which index of its network a pod gets.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use railhead_crds::names::{JOB_COMPLETION_INDEX, NETWORK_LABEL};
use thiserror::Error;

/// What the workload says about a pod's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexChoice {
    /// The workload numbers its pods: this one and no other.
    Fixed(u32),
    /// The workload does not number its pods: any free one.
    Any,
}

/// Why a pod can have no index. The text is shown as an event on the pod.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexError {
    /// The network has fewer pods.
    #[error("index {index} is not in network {network}, which has pods: {pods} (indices 0 to {last}): apply a network with at least {needed} pods", last = pods.saturating_sub(1), needed = u64::from(*index) + 1)]
    OutOfRange {
        /// The pod's index.
        index: u32,
        /// The network.
        network: String,
        /// Its size.
        pods: u32,
    },
    /// The completion index is not a number.
    #[error(
        "{JOB_COMPLETION_INDEX} is {value:?}, not a number; it is set by the Job controller and must be left alone"
    )]
    NotANumber {
        /// As found.
        value: String,
    },
}

/// The index of the pod of that metadata in a network of `pods` pods: the completion index of an Indexed Job, else any.
pub fn of(metadata: &ObjectMeta, pods: u32) -> Result<IndexChoice, IndexError> {
    let find = |map: &Option<std::collections::BTreeMap<String, String>>, key: &str| map.as_ref()?.get(key).cloned();
    let written =
        find(&metadata.annotations, JOB_COMPLETION_INDEX).or_else(|| find(&metadata.labels, JOB_COMPLETION_INDEX));
    let Some(value) = written else {
        return Ok(IndexChoice::Any);
    };
    let index: u32 = value.parse().map_err(|_| IndexError::NotANumber { value })?;
    if index >= pods {
        let network = find(&metadata.labels, NETWORK_LABEL).unwrap_or_default();
        return Err(IndexError::OutOfRange { index, network, pods });
    }
    Ok(IndexChoice::Fixed(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(index: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            labels: Some([(NETWORK_LABEL.to_owned(), "llama".to_owned())].into()),
            annotations: index.map(|i| [(JOB_COMPLETION_INDEX.to_owned(), i.to_owned())].into()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn an_indexed_job_says_the_index_and_other_pods_take_any() {
        assert_eq!(of(&pod(Some("7")), 8), Ok(IndexChoice::Fixed(7)));
        assert_eq!(of(&pod(None), 8), Ok(IndexChoice::Any));
    }

    #[test]
    fn an_index_beyond_the_network_names_the_field_to_change() {
        let text = of(&pod(Some("8")), 8).unwrap_err().to_string();
        assert!(
            text.contains("network llama, which has pods: 8") && text.contains("at least 9 pods"),
            "{text}"
        );
        assert!(of(&pod(Some("-1")), 8).is_err());
    }
}
