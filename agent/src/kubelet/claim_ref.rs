//! A claim as kubelet names it, checked: its UID becomes part of paths on the node, its name of requests to the API server.

use railhead_crds::names;
use thiserror::Error;

use crate::proto::dra::Claim;

/// A claim, as kubelet names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// What kubelet sent names no claim.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("kubelet asks for a claim whose {what} is {text:?}, which the API server gives to none; nothing was done")]
pub struct NoClaim {
    /// Which part.
    pub what: &'static str,
    /// What it is, cut off.
    pub text: String,
}

impl TryFrom<Claim> for ClaimRef {
    type Error = NoClaim;

    fn try_from(claim: Claim) -> Result<Self, Self::Error> {
        let no_claim = |what, text: &str| NoClaim {
            what,
            text: text.chars().take(64).collect(),
        };
        if !names::is_uid(&claim.uid) {
            return Err(no_claim("UID", &claim.uid));
        }
        // A namespace is one label.
        if !names::is_object_name(&claim.namespace) || claim.namespace.contains('.') {
            return Err(no_claim("namespace", &claim.namespace));
        }
        if !names::is_object_name(&claim.name) {
            return Err(no_claim("name", &claim.name));
        }
        Ok(Self {
            namespace: claim.namespace,
            name: claim.name,
            uid: claim.uid,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_lead_out_of_a_folder_is_no_claim() {
        let claim = |namespace: &str, name: &str, uid: &str| {
            ClaimRef::try_from(Claim {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: uid.to_owned(),
            })
        };
        assert!(claim("team-a", "llama-0-railhead-x2", "7f3a9c21-0000-4000-8000-000000000000").is_ok());
        for (namespace, name, uid) in [
            ("team-a", "c", "../../etc/cron.d/x"),
            ("team-a", "c", ""),
            ("team-a/../b", "c", "u"),
            ("team-a", "c?watch=true", "u"),
            ("", "c", "u"),
        ] {
            let refused = claim(namespace, name, uid).unwrap_err().to_string();
            assert!(refused.contains("nothing was done"), "{refused}");
        }
    }
}
