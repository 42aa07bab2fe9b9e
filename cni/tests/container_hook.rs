//! The built binary as a hook, on real processes.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
};

use railhead_cni::container_hook;
use railhead_host::{MemlockLimit, memlock_limit};
use railhead_plan::Layout;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde_json::{Value, json};

/// A process that may lock little, as the first one of a container.
struct Container(Child);

impl Container {
    fn start() -> Self {
        let mut child = Command::new("sh")
            .args([
                "-c",
                "ulimit -S -l 64 && ulimit -H -l 4096 && echo started && exec sleep 60",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = [0; 8];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut started).unwrap();
        Self(child)
    }

    fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }

    fn limit(&self) -> MemlockLimit {
        memlock_limit(self.pid()).unwrap()
    }

    fn state(&self) -> String {
        json!({"ociVersion": "1.2.0", "id": "c0ffee", "status": "creating", "pid": self.pid(), "bundle": "/b",
               "annotations": {"a": "b"}})
        .to_string()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn hook(stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_railhead"))
        .env_clear()
        .args(["container-hook", "00000000-0000-0000-0000-000000000000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn may_raise() -> bool {
    capabilities(None)
        .unwrap()
        .effective
        .contains(CapabilitySet::SYS_RESOURCE)
}

#[test]
fn the_hook_raises_the_limit_of_the_process_in_the_state_and_of_no_other() {
    let container = Container::start();
    let other = Container::start();
    assert_eq!(container.limit().soft, Some(64 * 1024));
    let hard = container.limit().hard;
    let output = hook(&container.state());
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    if may_raise() {
        assert_eq!(container.limit(), MemlockLimit { soft: None, hard: None });
        assert!(output.stderr.is_empty(), "{output:?}");
    } else {
        // Where the tests themselves may not raise a hard limit, the soft one goes as far as it may.
        assert_eq!(container.limit(), MemlockLimit { soft: hard, hard });
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("container c0ffee"),
            "{output:?}"
        );
    }
    assert_eq!(other.limit().soft, Some(64 * 1024));
}

#[test]
fn a_limit_that_cannot_be_raised_is_said_in_the_pods_folder_until_one_can() {
    let container = Container::start();
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::under(folder.path());
    fs::create_dir_all(layout.attachment("6f1c")).unwrap();
    let hard = container.limit().hard;
    let said = thread::scope(|scope| {
        let without_capability = scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective -= CapabilitySet::SYS_RESOURCE;
            sets.permitted -= CapabilitySet::SYS_RESOURCE;
            set_capabilities(None, sets).unwrap();
            container_hook(&layout, "6f1c", &mut container.state().as_bytes())
        });
        without_capability.join().unwrap().unwrap().unwrap()
    });
    assert!(said.contains("container c0ffee"), "{said}");
    assert!(said.contains(&format!("it may lock {} bytes", hard.unwrap())), "{said}");
    assert!(said.contains("LimitMEMLOCK=infinity"), "{said}");
    let note = layout.memlock_note("6f1c");
    assert_eq!(fs::read_to_string(&note).unwrap(), format!("{said}\n"));
    if may_raise() {
        assert_eq!(
            container_hook(&layout, "6f1c", &mut container.state().as_bytes()),
            Ok(None)
        );
        assert!(!note.exists());
    }
}

#[test]
fn a_state_that_cannot_be_used_never_keeps_a_container_from_starting() {
    let ended = {
        let container = Container::start();
        container.state()
    };
    for stdin in [
        "",
        "{}",
        "not json",
        r#"{"id":"c","pid":0}"#,
        r#"{"id":"c","pid":-1}"#,
        &ended,
    ] {
        let output = hook(stdin);
        assert!(output.status.success(), "{stdin}: {output:?}");
        assert!(!output.stderr.is_empty(), "{stdin}");
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::under(folder.path());
    fs::create_dir_all(layout.attachments()).unwrap();
    // Neither a pod without a folder nor a text that leads elsewhere makes a file.
    for pod in ["6f1c", "../../x", ""] {
        assert!(container_hook(&layout, pod, &mut "{}".as_bytes()).unwrap().is_some());
        assert_eq!(fs::read_dir(layout.attachments()).unwrap().count(), 0, "{pod}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{pod}");
    }
}

#[test]
fn a_container_does_not_get_the_device_that_another_pod_has_by_now() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::under(folder.path());
    let write = |path: PathBuf, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let record = json!({
        "version": 1, "containerId": "c1", "pod": {"namespace": "ml", "name": "train-0", "uid": "6f1c"},
        "network": {"name": "train", "uid": "u"}, "sliceName": "s", "index": 0, "pods": 2, "wiredInMs": 1,
        "rails": [{"rail": 0, "name": "rail0", "vf": "0000:18:00.3", "mac": "02:00:00:00:00:01", "mtu": 9000,
            "addresses": ["10.0.0.7/24"], "maxRateMbps": 0, "minRateMbps": 0, "spoofCheck": true,
            "rdma": {"device": "mlx5_9", "uverbs": "/dev/infiniband/uverbs9", "gidIndex": 3, "gid": "g"}}]
    });
    write(layout.record("6f1c"), &record.to_string());
    let verbs = |number: u32| layout.sysfs().join(format!("class/infiniband_verbs/uverbs{number}"));
    // The device, below that function.
    let class = layout.sysfs().join("class/infiniband/mlx5_9");
    let below = |vf: &str| {
        let _ = fs::remove_file(class.join("device"));
        fs::create_dir_all(&class).unwrap();
        symlink(format!("../../../bus/pci/devices/{vf}"), class.join("device")).unwrap();
    };
    let own = layout.sysfs().join("bus/pci/devices/0000:18:00.3/infiniband");
    let container = Container::start();
    let hook = || container_hook(&layout, "6f1c", &mut container.state().as_bytes());

    write(verbs(9).join("ibdev"), "mlx5_9\n");
    fs::create_dir_all(own.join("mlx5_9")).unwrap();
    below("0000:18:00.3");
    hook().unwrap();

    // The driver made the devices anew: uverbs9 is somebody else's.
    write(verbs(9).join("ibdev"), "mlx5_7\n");
    write(verbs(2).join("ibdev"), "mlx5_9\n");
    let refused = hook().unwrap_err();
    assert!(
        refused.contains("rail rail0: /dev/infiniband/uverbs9 is not the character device"),
        "{refused}"
    );
    assert!(refused.contains("delete the pod"), "{refused}");

    // The same name and number, below another VF: whether the pod's own has another device by now, or none.
    fs::remove_dir_all(verbs(2)).unwrap();
    write(verbs(9).join("ibdev"), "mlx5_9\n");
    below("0000:18:00.4");
    fs::rename(own.join("mlx5_9"), own.join("mlx5_1")).unwrap();
    hook().unwrap_err();
    fs::remove_dir_all(&own).unwrap();
    hook().unwrap_err();

    // A soft device is below no function.
    fs::remove_file(class.join("device")).unwrap();
    hook().unwrap();
}

#[test]
fn an_nccl_conf_of_the_image_below_ours_is_noted_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::under(folder.path());
    fs::create_dir_all(layout.attachment("6f1c")).unwrap();
    let bundle = folder.path().join("bundle");
    let etc = bundle.join("rootfs/etc");
    fs::create_dir_all(&etc).unwrap();
    let container = Container::start();
    let noted_by = |name: &str, mounts: Value| {
        let config = json!({"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "mounts": mounts});
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        let mut state: Value = serde_json::from_str(&container.state()).unwrap();
        state["bundle"] = json!(bundle);
        state["annotations"] = json!({"io.kubernetes.cri.container-name": name});
        container_hook(&layout, "6f1c", &mut state.to_string().as_bytes()).unwrap();
        fs::read_to_string(layout.nccl_hidden_note("6f1c")).ok()
    };
    let noted = |mounts: Value| noted_by("train", mounts);
    let over = |source: PathBuf| json!([{"destination": "/proc"}, {"destination": "/etc/nccl.conf", "source": source}]);
    let ours = over(layout.nccl_conf("6f1c"));

    assert_eq!(noted(ours.clone()), None, "the image has none");
    fs::write(etc.join("nccl.conf"), "").unwrap();
    assert_eq!(noted(ours.clone()), None, "that is what the runtime makes to mount on");
    fs::remove_file(etc.join("nccl.conf")).unwrap();
    fs::write(folder.path().join("outside"), "NCCL_DEBUG=INFO").unwrap();
    symlink(folder.path().join("outside"), etc.join("nccl.conf")).unwrap();
    assert_eq!(
        noted(ours.clone()),
        None,
        "a link does not lead out of the container's root"
    );
    fs::remove_file(etc.join("nccl.conf")).unwrap();
    fs::write(etc.join("nccl.conf"), "NCCL_DEBUG=INFO\n").unwrap();
    assert_eq!(noted(json!([])), None, "it is read");
    assert_eq!(noted(over("/home/me/nccl.conf".into())), None, "the pod's own mount");
    assert_eq!(noted(over(layout.nccl_conf("another"))), None);
    let note = noted(ours.clone()).unwrap();
    assert!(
        note.starts_with("container train: its image has an /etc/nccl.conf of 16 bytes"),
        "{note}"
    );
    assert_eq!(note.lines().count(), 1, "{note}");
    fs::write(etc.join("nccl.conf"), "NCCL_DEBUG=TRACE\n").unwrap();
    assert_eq!(
        noted_by("sidecar", ours),
        Some(note),
        "another container makes no news of it"
    );
}
