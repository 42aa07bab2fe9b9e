//! A pod as its workload shows in its metadata.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{IndexError, labels::Key};

/// Who controls a pod: the nearest owner, whose controller made the pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    group: &'a str,
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
}

impl<'a> Owner<'a> {
    fn new(reference: &'a OwnerReference) -> Self {
        Self {
            group: reference.api_version.split_once('/').map_or("", |(group, _)| group),
            kind: &reference.kind,
            name: &reference.name,
        }
    }

    /// Whether it is of that kind, in any version. Other groups have kinds of the same names.
    pub(super) fn is(&self, group: &str, kind: &str) -> bool {
        self.is_of(group) && self.kind == kind
    }

    pub(super) fn is_of(&self, group: &str) -> bool {
        self.group == group
    }

    /// `Job llama`.
    pub(super) fn text(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }
}

/// A pod's metadata, with its controller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pod<'a> {
    pub(super) metadata: &'a ObjectMeta,
    pub(super) owner: Option<Owner<'a>>,
}

impl<'a> Pod<'a> {
    pub(super) fn new(metadata: &'a ObjectMeta) -> Self {
        let owners = metadata.owner_references.iter().flatten();
        let mut controllers = owners.filter(|owner| owner.controller == Some(true));
        Self {
            metadata,
            owner: controllers.next().map(Owner::new),
        }
    }

    pub(super) fn name(&self) -> &'a str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Who controls it, or the pod itself.
    pub(super) fn owner_text(&self) -> String {
        self.owner
            .map_or_else(|| format!("pod {}", self.name()), |owner| owner.text())
    }

    /// A value that the framework writes as label, as annotation or as both, and then the same.
    pub(super) fn value(&self, key: Key) -> Result<Option<&'a str>, IndexError> {
        match (key.label(self.metadata), key.annotation(self.metadata)) {
            (Some(label), Some(annotation)) if label != annotation => {
                Err(self.contradicts(key, label, &format!("{annotation:?} in its annotation")))
            }
            (label, annotation) => Ok(label.or(annotation)),
        }
    }

    /// A value that the framework always writes.
    pub(super) fn needed(&self, key: Key) -> Result<&'a str, IndexError> {
        self.value(key)?.ok_or_else(|| IndexError::Missing {
            key: key.0,
            pod: self.name().to_owned(),
            owner: self.owner_text(),
        })
    }

    pub(super) fn number(&self, key: Key) -> Result<Option<u32>, IndexError> {
        self.value(key)?.map(|value| self.parsed(key, value)).transpose()
    }

    pub(super) fn needed_number(&self, key: Key) -> Result<u32, IndexError> {
        self.parsed(key, self.needed(key)?)
    }

    fn parsed(&self, key: Key, value: &str) -> Result<u32, IndexError> {
        number(value).ok_or_else(|| IndexError::NotANumber {
            key: key.0,
            value: value.to_owned(),
            pod: self.name().to_owned(),
            owner: self.owner_text(),
        })
    }

    /// A number that the name says as well, which nobody can edit.
    pub(super) fn agree(&self, key: Key, named: u32) -> Result<u32, IndexError> {
        match self.value(key)? {
            Some(value) if self.parsed(key, value)? != named => {
                Err(self.contradicts(key, value, &format!("{named} by its name")))
            }
            _ => Ok(named),
        }
    }

    pub(super) fn contradicts(&self, key: Key, value: &str, other: &str) -> IndexError {
        IndexError::Contradicts {
            key: key.0,
            value: value.to_owned(),
            pod: self.name().to_owned(),
            owner: self.owner_text(),
            other: other.to_owned(),
        }
    }
}

/// A number as frameworks write it: digits only.
pub(super) fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The number in a name that is `<prefix>-<number>`.
pub(super) fn ordinal(name: &str, prefix: &str) -> Option<u32> {
    number(name.strip_prefix(prefix)?.strip_prefix('-')?)
}
