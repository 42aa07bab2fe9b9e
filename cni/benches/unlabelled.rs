//! What a pod without a label pays: ADD of the real binary against a static program that does nothing, started in turn.
//!
//! `cargo bench -p railhead-cni`. For the binary as it is shipped, build both statically:
//! `RUSTFLAGS="-C target-feature=+crt-static" cargo bench -p railhead-cni --target x86_64-unknown-linux-gnu`.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const RUNS: usize = 1000;
const CONFIG: &str = r#"{"cniVersion":"1.0.0","name":"pod","type":"railhead","capabilities":{"io.kubernetes.cri.pod-annotations":true},
"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"kubernetes.io/config.seen":"2026-01-01T00:00:00Z"}},
"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"veth0","mac":"aa:bb:cc:dd:ee:ff"},{"name":"eth0","mac":"aa:bb:cc:dd:ee:00","sandbox":"/run/netns/cni-0"}],
"ips":[{"address":"10.244.0.5/24","gateway":"10.244.0.1","interface":1}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}}"#;

fn main() {
    let folder = env::temp_dir().join(format!("railhead-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the program that does nothing");
    let nothing = build_nothing(&folder);
    let railhead = PathBuf::from(env!("CARGO_BIN_EXE_railhead"));

    let mut times = [Vec::with_capacity(RUNS), Vec::with_capacity(RUNS)];
    for _ in 0..20 {
        run(&nothing);
        run(&railhead);
    }
    for _ in 0..RUNS {
        times[0].push(run(&nothing));
        times[1].push(run(&railhead));
    }
    fs::remove_dir_all(&folder).expect("remove the folder again");

    let [nothing, ours] = times.map(median);
    println!("runs, in turn:        {RUNS}");
    println!("static true, median:  {:>8.1} us", micros(nothing));
    println!("railhead ADD, median: {:>8.1} us", micros(ours));
    println!("an unlabelled pod pays {:.1} us more", micros(ours) - micros(nothing));
    let size = fs::metadata(&railhead).expect("the binary").len();
    println!("size of the binary:   {:>8} kB", size / 1000);
}

/// Compiled here, so that both programs are linked in the same way by the same tool chain.
fn build_nothing(folder: &Path) -> PathBuf {
    let source = folder.join("nothing.rs");
    let program = folder.join("nothing");
    fs::write(&source, "fn main() {}\n").expect("write the source");
    let status = Command::new(env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()))
        .args(["-O", "-C", "target-feature=+crt-static", "-o"])
        .arg(&program)
        .arg(&source)
        .status()
        .expect("start rustc");
    assert!(status.success(), "rustc could not build the program that does nothing");
    program
}

fn run(program: &Path) -> Duration {
    let start = Instant::now();
    let mut child = Command::new(program)
        .env_clear()
        .envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "0123456789abcdef"),
            ("CNI_NETNS", "/run/netns/cni-0"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
            (
                "CNI_ARGS",
                "K8S_POD_NAMESPACE=ml;K8S_POD_NAME=web-0;K8S_POD_UID=00000000-0000-0000-0000-000000000000",
            ),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the program");
    // The program that does nothing may be gone before it reads.
    let _ = child
        .stdin
        .take()
        .expect("its standard input is a pipe")
        .write_all(CONFIG.as_bytes());
    let output = child.wait_with_output().expect("wait for the program");
    let took = start.elapsed();
    assert!(output.status.success());
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
