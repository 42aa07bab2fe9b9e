//! A full disk, and things in the place of our files that we did not put there: a pod without rails passes at once, a pod
//! with rails is refused with a sentence, and nothing ever waits.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod node;

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount, umount},
    sched::{CloneFlags, unshare},
    sys::stat::Mode,
    unistd::mkfifo,
};
use node::{Node, POD_UID, Sandbox, answer, call, call_with, on_a_node, plan, succeeded};
use railhead_cni::{Context, Outcome};
use serde_json::{Value, json};

/// Puts something at a path whose folder exists.
type Hostile = (&'static str, fn(&Path));

const HOSTILE: [Hostile; 9] = [
    ("a link to a file", |path| symlink("/etc/passwd", path).unwrap()),
    ("a link to itself", |path| symlink(path, path).unwrap()),
    ("a FIFO", |path| mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap()),
    ("a folder", |path| fs::create_dir(path).unwrap()),
    ("a sparse gigabyte", |path| {
        File::create(path).unwrap().set_len(1 << 30).unwrap();
    }),
    ("NUL bytes", |path| fs::write(path, [0; 4096]).unwrap()),
    ("nothing in a file", |path| fs::write(path, "").unwrap()),
    ("a file that anybody may write", |path| {
        fs::write(path, "{}").unwrap();
        fs::set_permissions(path, PermissionsExt::from_mode(0o666)).unwrap();
    }),
    ("a file of a user", |path| {
        fs::write(path, "{}").unwrap();
        chown(path, Some(1000), None).unwrap();
    }),
];

fn clear(path: &Path) {
    if fs::remove_file(path).is_err() && fs::symlink_metadata(path).is_ok() {
        fs::remove_dir_all(path).unwrap();
    }
}

fn place(path: &Path, put: fn(&Path)) {
    clear(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    put(path);
}

/// A call for a pod that wants no rails.
fn unlabelled(context: &Context, verb: &str, sandbox: &Sandbox) -> Outcome {
    call_with(
        context,
        verb,
        sandbox,
        &json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {}}}),
    )
}

/// Every verb succeeds, soon, and ADD answers with what it got.
fn passes(node: &Node, sandbox: &Sandbox, when: &str) {
    for verb in ["ADD", "CHECK", "DEL", "STATUS"] {
        let start = Instant::now();
        let outcome = unlabelled(&node.context(), verb, sandbox);
        assert!(outcome.success, "{when}, {verb}: {}", outcome.stdout);
        assert!(start.elapsed() < Duration::from_secs(2), "{when}, {verb}");
        if verb == "ADD" {
            let result: Value = answer(&outcome);
            assert_eq!(
                result["interfaces"],
                json!([{"name": "eth0", "sandbox": "/run/netns/x"}]),
                "{when}"
            );
        }
    }
}

#[test]
fn a_pod_without_rails_passes_whatever_lies_in_the_place_of_our_files_and_folders() {
    on_a_node(|node| {
        let layout = node.layout();
        let sandbox = Sandbox::new("c1");
        let places = [
            layout.plan(POD_UID),
            layout.journal("c1"),
            layout.record(POD_UID),
            layout.attachment(POD_UID),
            layout.plans(),
            layout.journals(),
            layout.attachments(),
            layout.locks(),
        ];
        for (what, put) in HOSTILE {
            for path in &places {
                place(path, put);
                passes(node, &sandbox, &format!("{what} at {}", path.display()));
                clear(path);
            }
        }
    });
}

#[test]
fn a_pod_with_rails_is_told_what_lies_in_the_place_of_its_plan() {
    on_a_node(|node| {
        let function = node.add_function(0);
        for (what, put) in HOSTILE {
            place(&node.layout().plan(POD_UID), put);
            let start = Instant::now();
            let outcome = call(&node.context(), "ADD", &Sandbox::new("c1"));
            assert!(!outcome.success, "{what}");
            assert!(start.elapsed() < Duration::from_secs(2), "{what}");
            let error = answer(&outcome);
            assert_eq!(error["code"], 6, "{what}: {error}");
            let text = error["msg"].as_str().unwrap();
            assert!(text.contains(&format!("plans/{POD_UID}.json")), "{what}: {text}");
            assert!(text.contains("delete the pod"), "{what}: {text}");
            function.assert_at_home(what);
            assert_eq!(node.leftovers(), Vec::<String>::new(), "{what}");
        }
    });
}

#[test]
fn a_sandbox_whose_journal_was_spoilt_ends_and_takes_its_folder_along() {
    on_a_node(|node| {
        let layout = node.layout();
        for (what, put) in HOSTILE {
            for with_pod in [true, false] {
                node.add_function(0);
                node.write_plan(&plan(&[0]));
                let mut sandbox = Sandbox::new("c1");
                succeeded(&call(&node.context(), "ADD", &sandbox));
                assert!(layout.attachment(POD_UID).exists());
                place(&layout.journal("c1"), put);
                if !with_pod {
                    // The agent's DEL for a lost sandbox names no pod.
                    sandbox.pod_uid.clear();
                }
                let deleted = call(&node.context(), "DEL", &sandbox);
                succeeded(&deleted);
                assert!(
                    deleted.log.iter().any(|line| line.contains("c1.json")),
                    "{what}: {:?}",
                    deleted.log
                );
                assert!(fs::symlink_metadata(layout.journal("c1")).is_err(), "{what}");
                assert!(
                    !layout.attachment(POD_UID).exists(),
                    "{what}: containers of the next sandbox could start without rails"
                );
                clear(&layout.journals().join(".c1.damaged"));
                sandbox.ip("link del rail0");
            }
        }
    });
}

#[test]
fn a_late_del_with_a_spoilt_journal_leaves_the_folder_of_the_next_sandbox_alone() {
    on_a_node(|node| {
        node.add_function(0);
        node.write_plan(&plan(&[0]));
        let old = Sandbox::new("old");
        let new = Sandbox::new("new");
        succeeded(&call(&node.context(), "ADD", &new));
        place(&node.layout().journal("old"), |path| fs::write(path, [0; 10]).unwrap());
        succeeded(&call(&node.context(), "DEL", &old));
        succeeded(&call(&node.context(), "CHECK", &new));
    });
}

#[test]
fn what_a_killed_call_left_of_the_folder_goes_with_the_sandbox() {
    on_a_node(|node| {
        node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &sandbox));
        let attachments = node.layout().attachments();
        for (name, put) in [
            (format!(".{POD_UID}.1"), HOSTILE[3].1),
            (format!(".{POD_UID}.2"), HOSTILE[2].1),
        ] {
            place(&attachments.join(name), put);
        }
        fs::write(attachments.join(format!(".{POD_UID}.1/attachment.json")), "{}").unwrap();
        let other = attachments.join(".another-pod.1");
        fs::create_dir(&other).unwrap();
        succeeded(&call(&node.context(), "DEL", &sandbox));
        assert_eq!(
            node.leftovers(),
            [other.display().to_string()],
            "another pod's may be in the making"
        );
    });
}

#[test]
fn a_full_disk_harms_no_pod_without_rails_and_keeps_no_pod_with_rails() {
    on_a_node(|node| {
        let function = node.add_function(0);
        let layout = node.layout();
        let disk = layout.journals().parent().unwrap().to_owned();
        fs::create_dir_all(&disk).unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .unwrap();
        mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();

        fs::create_dir_all(layout.plans()).unwrap();
        node.write_plan(&plan(&[0]));
        let wired = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &wired));
        assert!(
            fs::write(disk.join("filler"), vec![1; 1 << 20]).is_err(),
            "the disk has room for a megabyte"
        );

        passes(node, &Sandbox::new("c2").of_pod("another-pod"), "on a full disk");
        succeeded(&call(&node.context(), "CHECK", &wired));
        succeeded(&call(&node.context(), "DEL", &wired));
        function.assert_at_home("after DEL on a full disk");
        // What DEL freed is filled again.
        let _ = fs::write(disk.join("filler2"), vec![1; 1 << 20]);
        let error = answer(&call(&node.context(), "ADD", &Sandbox::new("c3")));
        assert_eq!(error["code"], 5);
        assert!(
            error["msg"].as_str().unwrap().contains("No space left on device"),
            "{error}"
        );
        function.assert_at_home("after an ADD on a full disk");
        assert!(!layout.attachment(POD_UID).exists());
        umount(&disk).unwrap();
    });
}
