//! What a teardown that failed leaves the Fabrics in, in words that say the next step.

use std::fmt;

use kube::ResourceExt;
use railhead_crds::Fabric;

use super::TeardownError;
use railhead_service::chain;

use crate::network::listed;

/// Whether the nodes go on giving back after this error: they need more time, and the next attempt finds them further.
pub(super) fn goes_on(error: &TeardownError) -> bool {
    matches!(error, TeardownError::TimedOut { .. })
}

/// The Fabrics, by what they say now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Aftermath {
    set_back: Vec<String>,
    go_on: Vec<String>,
    why: Option<String>,
}

impl Aftermath {
    /// Those that somebody else, or an earlier attempt, had asked to give back stay so.
    pub(super) fn before(asked_before: &[Fabric]) -> Self {
        Self {
            go_on: asked_before.iter().map(ResourceExt::name_any).collect(),
            ..Self::default()
        }
    }

    pub(super) fn is_back(&mut self, name: String) {
        self.set_back.push(name);
    }

    pub(super) fn goes_on(&mut self, name: String) {
        self.go_on.push(name);
    }

    pub(super) fn could_not_be_set_back(&mut self, name: String, why: &TeardownError) {
        self.go_on.push(name);
        self.why = Some(chain(why));
    }
}

impl fmt::Display for Aftermath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.set_back.is_empty() {
            write!(
                out,
                ", teardown: false is set again on Fabric {}",
                listed(&self.set_back)
            )?;
        }
        if self.go_on.is_empty() {
            return Ok(());
        }
        write!(out, ", teardown: true stays on Fabric {}", listed(&self.go_on))?;
        if let Some(why) = &self.why {
            write!(out, " ({why})")?;
        }
        write!(
            out,
            ", so their nodes go on giving back and take no new pods (to keep Railhead: `kubectl patch fabric {} --type merge --patch '{{\"spec\":{{\"teardown\":false}}}}'`)",
            self.go_on.join(" ")
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::network::fixtures;

    #[test]
    fn only_nodes_that_need_more_time_go_on_giving_back() {
        let (timeout, nodes) = (Duration::from_mins(4), String::new());
        assert!(goes_on(&TeardownError::TimedOut { timeout, nodes }));
        let pods = String::new();
        assert!(!goes_on(&TeardownError::OperatorStays { timeout, pods }));
        assert!(!goes_on(&TeardownError::NoDeployment {
            name: "operator".into()
        }));
        assert!(!goes_on(&TeardownError::Attached { pods: "one".into() }));
    }

    #[test]
    fn the_message_says_of_every_fabric_what_it_says_now_and_how_to_keep_railhead() {
        assert_eq!(Aftermath::default().to_string(), "");
        let mut fabrics = Aftermath::before(&[fixtures::fabric()]);
        fabrics.is_back("storage".into());
        let why = TeardownError::NoDeployment {
            name: "operator".into(),
        };
        fabrics.could_not_be_set_back("spare".into(), &why);
        assert_eq!(
            fabrics.to_string(),
            ", teardown: false is set again on Fabric storage, teardown: true stays on Fabric backend, spare \
             (Deployment operator does not exist: correct --deployment), so their nodes go on giving back and take no new pods \
             (to keep Railhead: `kubectl patch fabric backend spare --type merge --patch '{\"spec\":{\"teardown\":false}}'`)"
        );
    }
}
