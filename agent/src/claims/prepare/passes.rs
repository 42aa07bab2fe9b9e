//! Which failures on the node pass by themselves, so that the same try may succeed a little later.

use railhead_host::{Errno, LockError, NetlinkError};
use railhead_vf::{CutOffError, HostError, OriginalsError, RestoreError};

/// Whether what kept a VF from being recorded, or from being given back before it is, may pass.
pub(in crate::claims) fn originals_pass(error: &OriginalsError) -> bool {
    match error {
        OriginalsError::Lock { source, .. } => is_held(source),
        OriginalsError::CutOff(error) => cut_off_passes(error),
        OriginalsError::GiveBack { source, .. } => restore_passes(source),
        error => passes(error),
    }
}

/// Whether what keeps a VF from being as it was found may pass.
pub(in crate::claims) fn restore_passes(error: &RestoreError) -> bool {
    match error {
        // As what a PF does not keep: a reset of the driver's takes settings away.
        RestoreError::Differs { .. } => true,
        // Its driver has been bound again, in vain.
        RestoreError::Left { .. } => false,
        RestoreError::Owed { source, .. } => originals_pass(source),
        error => passes(error),
    }
}

/// Whether programs that have a VF open may let it go.
pub(in crate::claims) fn cut_off_passes(error: &CutOffError) -> bool {
    match error {
        // They end, or a service of the host closes what it has just opened.
        CutOffError::Held { .. } | CutOffError::Opened { .. } => true,
        error => passes(error),
    }
}

/// Whether somebody has the lock and will let it go.
pub(super) fn is_held(error: &LockError) -> bool {
    matches!(error, LockError::Held { .. })
}

/// Whether the kernel's answer behind an error is one that passes: a driver that resets a VF is busy or forgets a setting, a VF
/// that leaves a pod or gets its driver back is not there yet, a host that changes its links interrupts every list of them.
pub(in crate::claims) fn passes(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let boxed = error.downcast_ref::<Box<HostError>>().map(AsRef::as_ref);
        let netlink = match error.downcast_ref::<HostError>().or(boxed) {
            // A driver that is bound again brings RDMA devices back in its own time.
            Some(HostError::NotHome { .. } | HostError::NotKept { .. } | HostError::NoRdma { .. }) => return true,
            Some(HostError::Lock { source, .. }) => return is_held(source),
            Some(HostError::Netlink(error)) => Some(error),
            _ => error.downcast_ref::<NetlinkError>(),
        };
        let errno = match netlink {
            Some(NetlinkError::Interrupted { .. }) => return true,
            Some(error) => error.errno(),
            None => error
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::raw_os_error)
                .map(Errno::from_raw),
        };
        if matches!(
            errno,
            Some(Errno::EBUSY | Errno::EAGAIN | Errno::EINTR | Errno::ENODEV | Errno::ENOBUFS)
        ) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use railhead_host::LockHolder;

    use super::*;
    use crate::claims::{prepare::PrepareError, release::ReleaseError};

    #[test]
    fn a_vf_that_somebody_else_has_for_the_moment_is_waited_for() {
        let vf = || "0000:18:00.3".parse().unwrap();
        let held = || LockError::Held {
            path: "0000:18:00.3.lock".into(),
            waited: std::time::Duration::from_secs(1),
            holder: LockHolder::default(),
        };
        let no_space = || LockError::File {
            path: "0000:18:00.3.lock".into(),
            source: std::io::Error::from_raw_os_error(Errno::ENOSPC as i32),
        };
        let is_transient = |error: OriginalsError| {
            let released = ReleaseError::from(OriginalsError::Lock {
                vf: vf(),
                source: held(),
            });
            assert!(released.is_transient());
            PrepareError::from(error).is_transient()
        };
        assert!(is_transient(OriginalsError::Lock {
            vf: vf(),
            source: held()
        }));
        assert!(!is_transient(OriginalsError::Lock {
            vf: vf(),
            source: no_space()
        }));
        let programs = railhead_vf::Programs::default;
        assert!(is_transient(
            CutOffError::Held {
                vf: vf(),
                programs: programs()
            }
            .into()
        ));
        let port = |source| HostError::Lock { pf: vf(), source };
        let bound = |source| CutOffError::Host {
            vf: vf(),
            source: Box::new(port(source)),
        };
        assert!(is_transient(bound(held()).into()));
        assert!(!is_transient(bound(no_space()).into()));
        assert!(ReleaseError::from(bound(held())).is_transient());
        let restored = |source| OriginalsError::GiveBack {
            vf: vf(),
            source: Box::new(source),
        };
        let differs = RestoreError::Differs {
            vf: vf(),
            knobs: Vec::new(),
            differences: Vec::new(),
        };
        assert!(is_transient(restored(differs)));
        let left = RestoreError::Left {
            vf: vf(),
            left: Vec::new(),
        };
        assert!(!is_transient(restored(left)), "a person has to look");
    }
}
