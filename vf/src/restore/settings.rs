//! What the holder of a VF set on its link beside what an attachment sets, taken off again.

use std::collections::BTreeSet;

use railhead_host::{Link, LinkOptions, LinkSetting};

use super::{RestoreError, Step, error::words};

impl Step<'_> {
    /// Takes off what its holder set on the link beside what an attachment sets. What no request takes off goes with the link,
    /// when the VF is bound to its driver again: the kernel makes a new one (`register_netdevice`), and XDP programs go with the
    /// old one (`dev_xdp_uninstall`, net/core/dev.c). Returns the VF's link.
    pub(super) fn settings(&mut self, link: Link) -> Result<Link, RestoreError> {
        let vf = &self.original.pci_address;
        let mut left = self.restore_settings(&link)?;
        let mut link = link;
        if !left.is_empty() && self.host.sysfs.driver(vf).is_some() {
            tracing::warn!(
                %vf, left = words(&left),
                "a pod left settings on a VF that no request takes off; it is bound to its driver again"
            );
            self.rebind()?;
            link = self.link()?;
            if link.up && !self.original.link.up {
                self.set_up(&link, false)?;
            }
            left = self.restore_settings(&link)?;
        }
        let (harmful, harmless): (Vec<_>, Vec<_>) = left.into_iter().partition(|setting| setting.harms());
        if !harmful.is_empty() {
            return Err(RestoreError::Left {
                vf: vf.clone(),
                left: harmful,
            });
        }
        if !harmless.is_empty() {
            tracing::warn!(
                %vf, left = words(&harmless),
                "the link of a VF is not set as it was found; the next pod gets it so"
            );
        }
        Ok(link)
    }

    fn restore_settings(&mut self, link: &Link) -> Result<BTreeSet<LinkSetting>, RestoreError> {
        let vf = &self.original.pci_address;
        let known = match &self.original.settings {
            Some(settings) => Ok(Some(settings.clone())),
            // A release that did not record them had lent the VF.
            None => self.host.link_settings(vf, link.index).map(|found| {
                found.map(|mut found| {
                    found.options.flags = LinkOptions::FRESH;
                    found
                })
            }),
        };
        let Some(mut wanted) = known.map_err(|source| self.error(source))? else {
            return Ok(BTreeSet::new());
        };
        // A VF that nobody uses needs none of them, and what is there by now may be a pod's in place of what was found.
        wanted.options.xdp.clear();
        wanted.filter_rules = wanted.filter_rules.map(|_| 0);
        wanted.tc_programs = wanted.tc_programs.map(|_| 0);
        // The record of its link tells them.
        wanted.options.promiscuous = self.original.link.promiscuous.unwrap_or_default();
        wanted.options.all_multicast = self.original.link.all_multicast.unwrap_or_default();
        wanted.options.tx_queue_len = self.original.link.tx_queue_len.unwrap_or(wanted.options.tx_queue_len);
        self.host
            .restore_link_settings(vf, link.index, &wanted)
            .map_err(|source| self.error(source))
    }
}
