//! Debian as a source: which release this machine runs, which mirror it uses, and other suites from that same mirror.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::lab::run::capture;

const APT_LIMIT: Duration = Duration::from_mins(10);
/// Part of the archive's metadata signing; every Debian has it.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The mirror that this machine's own apt configuration names.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Its base address, ending in a slash.
    pub uri: String,
    /// The code name of the release this machine runs.
    pub release: String,
}

impl Mirror {
    /// Finds release and mirror; refuses anything but Debian 12 and 13.
    pub fn find() -> Result<Self> {
        let os = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
        let release = release_of(&os)?;
        let targets = capture(
            Command::new("apt-get").args([
                "indextargets",
                "--format",
                "$(RELEASE) $(COMPONENT) $(REPO_URI)",
                "Created-By: Packages",
            ]),
            APT_LIMIT,
        )?
        .ok()?;
        let wanted = format!("{release} main ");
        let uri = targets
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(&wanted))
            .with_context(|| {
                format!("apt on this machine has no source for {release} main: add one to /etc/apt/sources.list.d")
            })?;
        Ok(Self {
            uri: uri.to_owned(),
            release,
        })
    }
}

fn release_of(os_release: &str) -> Result<String> {
    let field = |name: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    let (id, version) = (field("ID"), field("VERSION_ID"));
    match (id.as_str(), version.as_str()) {
        ("debian", "12") => Ok("bookworm".into()),
        ("debian", "13") => Ok("trixie".into()),
        _ => bail!(
            "the lab runs on Debian 12 and 13, this machine says ID={id} VERSION_ID={version}: \
             use one of these, for example in a virtual machine with 2 cores and 16 GiB"
        ),
    }
}

/// An apt of its own for a suite that this machine does not use: lists and caches in a folder, nothing in /etc/apt changed.
pub(super) struct ForeignSuite {
    folder: PathBuf,
}

impl ForeignSuite {
    pub(super) fn open(folder: &Path, mirror: &Mirror, suite: &str) -> Result<Self> {
        for sub in ["lists/partial", "cache/archives/partial", "etc"] {
            fs::create_dir_all(folder.join(sub))?;
        }
        fs::write(folder.join("status"), "")?;
        fs::write(
            folder.join("etc/suite.sources"),
            format!(
                "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n",
                mirror.uri
            ),
        )?;
        let own = Self {
            folder: folder.to_path_buf(),
        };
        capture(own.command("apt-get").arg("update"), APT_LIMIT)?.ok()?;
        Ok(own)
    }

    pub(super) fn package_names(&self) -> Result<Vec<String>> {
        let names = capture(self.command("apt-cache").arg("pkgnames"), APT_LIMIT)?.ok()?;
        Ok(names.stdout.lines().map(str::to_owned).collect())
    }

    /// Downloads packages and unpacks them into a folder, without installing anything.
    pub(super) fn unpack(&self, packages: &[&str], into: &Path) -> Result<()> {
        let debs = self.folder.join("debs");
        fs::create_dir_all(&debs)?;
        // apt drops its rights for downloads where it can; as root in a private folder it cannot, and says so at length.
        let mut download = self.command("apt-get");
        download
            .args(["-o", "APT::Sandbox::User=root", "download"])
            .args(packages)
            .current_dir(&debs);
        capture(&mut download, APT_LIMIT)?.ok()?;
        let mut unpacked = 0;
        for entry in fs::read_dir(&debs)? {
            capture(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(into), APT_LIMIT)?.ok()?;
            unpacked += 1;
        }
        ensure!(
            unpacked == packages.len(),
            "apt-get downloaded {unpacked} of {packages:?}"
        );
        fs::remove_dir_all(&debs)?;
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |sub: &str| self.folder.join(sub).display().to_string();
        for (option, value) in [
            ("Dir::Etc::sourcelist", "/dev/null".to_owned()),
            ("Dir::Etc::sourceparts", at("etc")),
            ("Dir::State::lists", at("lists")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at("cache")),
            ("APT::Architecture", "amd64".to_owned()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_12_and_13_are_accepted_and_others_are_told_so() {
        assert_eq!(release_of("ID=debian\nVERSION_ID=\"12\"\n").unwrap(), "bookworm");
        assert_eq!(release_of("VERSION_ID=\"13\"\nID=debian\n").unwrap(), "trixie");
        let error = release_of("ID=ubuntu\nVERSION_ID=\"24.04\"\n").unwrap_err().to_string();
        assert!(
            error.contains("ubuntu") && error.contains("Debian 12 and 13"),
            "{error}"
        );
    }
}
