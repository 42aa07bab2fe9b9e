//! Who may use what the platform team offers.

use std::fmt;

use railhead_crds::NamespaceSelector;

/// The namespace of a network, with the labels that the cluster's administrators gave it.
#[derive(Clone, Copy)]
pub struct Tenant<'a> {
    /// Its name.
    pub namespace: &'a str,
    /// Whether it has a label with this value.
    pub has: &'a dyn Fn(&str, &str) -> bool,
}

impl fmt::Debug for Tenant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// Something that is offered to some namespaces or to all.
pub(crate) struct Offer<'a> {
    /// What it is: `QosClass`.
    pub(crate) kind: &'static str,
    /// The field of a network that names one.
    pub(crate) field: &'static str,
    /// Its name.
    pub(crate) name: &'a str,
    /// For whom it is; `None` for all.
    pub(crate) allowed: Option<&'a NamespaceSelector>,
}

impl Tenant<'_> {
    /// Whether it is among those that are allowed.
    pub(crate) fn is_among(&self, allowed: Option<&NamespaceSelector>) -> bool {
        self.lacks(allowed).is_empty()
    }

    /// The labels that it would need and does not have, as `key=value`.
    fn lacks(&self, allowed: Option<&NamespaceSelector>) -> Vec<String> {
        let wanted = allowed.into_iter().flat_map(|allowed| &allowed.match_labels);
        wanted
            .filter(|(key, value)| !(self.has)(key, value))
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    }

    /// Why it may not use what its network names or gets by default; `others` are those of the kind that it may use.
    pub(crate) fn check(&self, offer: &Offer<'_>, others: &[&str]) -> Result<(), String> {
        let lacks = self.lacks(offer.allowed);
        if lacks.is_empty() {
            return Ok(());
        }
        let Offer {
            kind,
            field,
            name,
            allowed,
        } = offer;
        let wanted = allowed.iter().flat_map(|allowed| &allowed.match_labels);
        let wanted: Vec<String> = wanted.map(|(key, value)| format!("{key}={value}")).collect();
        let instead = if others.is_empty() {
            String::new()
        } else {
            format!(
                " apply the network anew with another {kind} in {field} ({}), or",
                others.join(", ")
            )
        };
        Err(format!(
            "namespace {} may not use {kind} {name}, which is for namespaces with the labels {}:{instead} ask the platform team for \
             it, who allow it with kubectl label namespace {} {}",
            self.namespace,
            wanted.join(", "),
            self.namespace,
            lacks.join(" "),
        ))
    }
}
