//! Giving up rights. Loading programs takes more than reading what they counted; what is not needed any more is dropped
//! before the first thread is made and the first byte is read from the network.

use crate::host::CAPABILITIES;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs,
};

/// Gives up every capability of the calling thread but those of `wanted` that it holds, for good: not even a program of
/// root's gains one again. Threads made from now on hold no more either; call it before there are others.
///
/// # Errors
/// What the kernel said; nothing may have been given up then.
pub fn keep(wanted: CapabilitySet) -> Result<CapabilitySet, Errno> {
    set_no_new_privs(true)?;
    let held = capabilities(None)?.permitted & wanted;
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() },
    )?;
    Ok(held)
}

/// `CAP_BPF and CAP_PERFMON`, or `no capability`.
#[must_use]
pub fn named(set: CapabilitySet) -> String {
    let names: Vec<&str> =
        CAPABILITIES.iter().filter(|(_, one)| set.contains(*one)).map(|(name, _)| *name).collect();
    match names.as_slice() {
        [] => "no capability".to_owned(),
        names => names.join(" and "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gave_up_its_rights_has_none_and_cannot_get_them_back() {
        std::thread::spawn(|| {
            let before = capabilities(None).expect("own capabilities");
            let kept = keep(CapabilitySet::NET_ADMIN).expect("giving up");
            assert_eq!(kept, before.permitted & CapabilitySet::NET_ADMIN);
            let after = capabilities(None).expect("own capabilities");
            assert_eq!((after.effective, after.permitted), (kept, kept));
            assert!(after.inheritable.is_empty());
            assert!(rustix::thread::no_new_privs().expect("own flag"));
            if !kept.contains(CapabilitySet::SYS_ADMIN) {
                let more = CapabilitySets { effective: kept | CapabilitySet::SYS_ADMIN, ..after };
                let more = CapabilitySets { permitted: more.effective, ..more };
                assert_eq!(set_capabilities(None, more), Err(Errno::PERM));
            }
        })
        .join()
        .expect("the thread");
    }

    #[test]
    fn sets_have_names() {
        assert_eq!(named(CapabilitySet::empty()), "no capability");
        assert_eq!(named(CapabilitySet::PERFMON | CapabilitySet::BPF), "CAP_BPF and CAP_PERFMON");
    }
}
