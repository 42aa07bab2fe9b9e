//! The records of how PFs and VFs were.

use std::fs;

use railhead_plan::{Layout, PciAddress};
use railhead_vf::Originals;

/// The boot in which the node is.
const BOOT: &str = "b";

/// The content of both records of a node, of a VF and of a port. What is read survives being written; whatever else it is,
/// it counts as absent, and a new record takes its place.
pub fn originals(input: &[u8]) {
    let node = tempfile::tempdir().expect("a folder for the node");
    let layout = Layout::under(node.path());
    let folder = layout.originals();
    fs::create_dir_all(&folder).expect("the folder of records");
    let (pf, vf): (PciAddress, PciAddress) = (
        "0000:18:00.0".parse().expect("an address"),
        "0000:18:00.1".parse().expect("an address"),
    );
    let files = [format!("function-{vf}.json"), format!("port-{pf}.json")];
    for file in &files {
        fs::write(folder.join(file), input).expect("a record");
    }
    let originals = Originals::new(&layout, BOOT);
    let read = originals.vf(&vf).expect("a file of root's can be read");
    let owed = originals.owed().expect("a file of root's can be read");
    if let Some(read) = read {
        assert_eq!(read.boot_id, BOOT, "a record of another boot");
        assert_eq!(read.pci_address, vf, "a record of another VF");
        assert_eq!(owed, if read.rate_owed { vec![read.clone()] } else { Vec::new() });
        originals
            .owe_rate(&read, !read.rate_owed)
            .expect("what was read can be written");
        let mut again = originals
            .vf(&vf)
            .expect("the record")
            .expect("what was written is there");
        assert!(!again.differs_from(&read), "{again:?}");
        again.rate_owed = read.rate_owed;
        assert_eq!(again, read);
    } else {
        assert!(owed.is_empty(), "{owed:?}");
    }
    let read = originals.port(&pf).expect("a file of root's can be read");
    if let Some(read) = read {
        assert_eq!(read.pci_address, pf, "a record of another port");
        originals
            .record_port(read.clone())
            .expect("what was read can be written");
        assert_eq!(
            originals.port(&pf).expect("the record"),
            Some(read),
            "the first record counts"
        );
    }
    originals.forget_earlier_boots().expect("files of root's");
    originals.forget_vf(&vf).expect("a file of root's");
    originals.forget_port(&pf).expect("a file of root's");
    assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 0);
}
